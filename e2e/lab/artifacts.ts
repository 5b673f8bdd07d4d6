import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const script = fileURLToPath(new URL('../../hack/images/artifacts.ts', import.meta.url));
let folder: Promise<string> | undefined;

function runScript(): Promise<string> {
  return new Promise((resolve, reject) => {
    // stderr passes through: the first run builds for minutes and says so there.
    const child = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'inherit'] });
    const chunks: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
    child.once('error', reject);
    child.once('close', (code) => {
      const path = Buffer.concat(chunks).toString('utf8').trim();
      if (code === 0 && path !== '') resolve(path);
      else reject(new Error(`hack/images/artifacts.ts ended with ${code}: the artifacts of Kubernetes are not there`));
    });
  });
}

/** The folder with what a machine needs to become a cluster of v1.35.4 or v1.36.3, made by hack/images/artifacts.ts when needed. */
export function artifactsFolder(): Promise<string> {
  folder ??= runScript();
  return folder;
}
