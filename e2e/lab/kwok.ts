import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type LabProcess, readyOrEnded, startProcess } from './process.ts';
import { waitFor } from './wait.ts';

const stages = fileURLToPath(new URL('kwok-stages.yaml', import.meta.url));

/**
 * Starts kwok, which lets the pods of every node look alive (see kwok-stages.yaml) and leaves the status of the nodes alone. Node leases
 * are off: nobody in a lab watches them.
 */
export async function startKwok(options: { bin: string; dir: string; kubeconfig: string; port: number }): Promise<LabProcess> {
  const { bin, dir, kubeconfig, port } = options;
  const kwok = await startProcess({
    name: 'kwok',
    command: join(bin, 'kwok'),
    args: [
      `--kubeconfig=${kubeconfig}`,
      `--config=${stages}`,
      '--manage-all-nodes=true',
      '--node-lease-duration-seconds=0',
      `--server-address=127.0.0.1:${port}`,
    ],
    log: join(dir, 'kwok.log'),
    // kwok looks for a configuration in the home folder too.
    env: { HOME: dir },
  });
  await readyOrEnded(kwok, (signal) =>
    waitFor(async () => (await fetch(`http://127.0.0.1:${port}/healthz`, { signal })).ok, { what: 'kwok to be healthy', signal }),
  );
  return kwok;
}
