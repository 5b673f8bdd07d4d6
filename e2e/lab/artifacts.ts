import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const folders = new Map<string, Promise<string>>();

function runScript(name: string): Promise<string> {
  const script = fileURLToPath(new URL(`../../hack/images/${name}`, import.meta.url));
  return new Promise((resolve, reject) => {
    // stderr passes through: the first run builds for minutes and says so there.
    const child = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'inherit'] });
    const chunks: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
    child.once('error', reject);
    child.once('close', (code) => {
      const path = Buffer.concat(chunks).toString('utf8').trim();
      if (code === 0 && path !== '') resolve(path);
      else reject(new Error(`hack/images/${name} ended with ${code}: what it makes is not there`));
    });
  });
}

function once(name: string): Promise<string> {
  const folder = folders.get(name) ?? runScript(name);
  folders.set(name, folder);
  return folder;
}

/** The folder with what a machine needs to become a cluster of v1.35.4 or v1.36.3, made by hack/images/artifacts.ts when needed. */
export const artifactsFolder = (): Promise<string> => once('artifacts.ts');

/** The folder with images of local-path storage and of flannel (images/), and with flannel's manifest, made by hack/images/add-ons.ts when needed. */
export const addOnsFolder = (): Promise<string> => once('add-ons.ts');
