import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const script = fileURLToPath(new URL('../../hack/tools.sh', import.meta.url));
let folder: Promise<string> | undefined;

function runToolsScript(...names: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    // stderr passes through: the first run downloads or builds for minutes and says so there.
    const child = spawn(script, names, { stdio: ['ignore', 'pipe', 'inherit'] });
    const chunks: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
    child.once('error', reject);
    child.once('close', (code) => {
      const path = Buffer.concat(chunks).toString('utf8').trim().split('\n').at(-1) ?? '';
      if (code === 0 && path !== '') resolve(path);
      else reject(new Error(`hack/tools.sh ended with ${code}: the Kubernetes tools are not there`));
    });
  });
}

/** The folder with etcd, kube-apiserver, kube-controller-manager, kubectl, kwok and moto_server, made by hack/tools.sh when needed. */
export function toolsFolder(): Promise<string> {
  folder ??= runToolsScript();
  return folder;
}

/** The same folder with one more program that hack/tools.sh knows. */
export const toolsFolderWith = (name: string): Promise<string> => runToolsScript(name);

/** Where the programs of another version of Kubernetes stand, which `make machine-tools` makes; `bin` is the tools' own folder. */
export const versionFolder = (bin: string, version: string): string => join(dirname(bin), `bin-${version}`);

/** Why there is no control plane of that version; undefined when there can be one. */
export async function noVersion(version: string): Promise<string | undefined> {
  const program = join(versionFolder(await toolsFolder(), version), 'kube-apiserver');
  return existsSync(program) ? undefined : `there is no kube-apiserver ${version}: make machine-tools`;
}
