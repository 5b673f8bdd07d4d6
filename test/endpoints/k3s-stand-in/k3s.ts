import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type Place, readState, writeState } from './state.ts';

/**
 * Stand-in of the binary k3s: behaves as documented (https://docs.k3s.io/cli) as far as the agent sees it, and keeps its state in files below a root. Arguments: root, private folder,
 * version, and then those of k3s; `--version` and `ctr` are answered by the script that starts it. What it shall do wrong stands, a word a line, in the file `faults` of the private folder.
 */
const [root = '', privateFolder = '', version = '', command = '', ...rest] = process.argv.slice(2);
const place: Place = {
  at: (path) => join(root, path),
  version,
  faults: existsSync(join(privateFolder, 'faults')) ? readFileSync(join(privateFolder, 'faults'), 'utf8').split('\n') : [],
};
const pidFile = join(privateFolder, 'k3s.pid');

function running(): boolean {
  try {
    process.kill(Number(readFileSync(pidFile, 'utf8')), 0);
    return true;
  } catch {
    return false;
  }
}

function fail(message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}

if (command === 'server') {
  const { serve } = await import('./server.ts');
  await serve(place);
} else if (command === 'certificate' && rest[0] === 'rotate') {
  if (running()) fail('k3s must be stopped');
  if (place.faults.includes('rotate')) fail('level=fatal msg="rotation failed"');
  const { leaves } = await import('./certificates.ts');
  if (!place.faults.includes('rotate-nothing')) for (const path of leaves(place)) rmSync(path);
} else if (command === 'kubectl') {
  if (!running()) fail('The connection to the server 127.0.0.1:6443 was refused');
  if (place.faults.includes('kubectl')) fail('error: the stand-in was told to fail');
  const [verb = '', ...words] = rest.slice(2);
  const state = readState(place);
  if (verb === 'cordon' || verb === 'uncordon') writeState(place, { ...state, unschedulable: verb === 'cordon' });
  else if (verb === 'apply') writeState(place, { ...state, applied: [...state.applied, words.at(-1) ?? ''] });
  else fail(`the stand-in knows no kubectl ${verb}`);
} else {
  fail(`the stand-in knows no k3s ${command}`);
}
