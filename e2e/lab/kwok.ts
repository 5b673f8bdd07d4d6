import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { type LabProcess, readyOrEnded, startProcess } from './process.ts';
import { waitFor } from './wait.ts';

const stages = fileURLToPath(new URL('kwok-stages.yaml', import.meta.url));

/** What kwok, as the kubelet of every node, does for exec, logs, attach and port-forward of any pod. */
export type PodAccess = {
  /** Commands of exec run here as ordinary processes of this machine, with this folder as their HOME. */
  workDir: string;
  /** File in the CRI's log format, the log of every container. */
  logFile: string;
  /** Port on 127.0.0.1 where every forwarded port leads. */
  forwardPort: number;
};

function podAccessObjects({ workDir, logFile, forwardPort }: PodAccess): object[] {
  const object = (kind: string, spec: object) => ({ apiVersion: 'kwok.x-k8s.io/v1alpha1', kind, metadata: { name: 'lab' }, spec });
  return [
    object('ClusterExec', { execs: [{ local: { workDir, envs: [{ name: 'HOME', value: workDir }] } }] }),
    object('ClusterLogs', { logs: [{ logsFile: logFile, previousLogsFile: logFile, follow: true }] }),
    object('ClusterAttach', { attaches: [{ logsFile: logFile }] }),
    object('ClusterPortForward', { forwards: [{ target: { address: '127.0.0.1', port: forwardPort } }] }),
  ];
}

/**
 * Starts kwok, which lets the pods of every node look alive (see kwok-stages.yaml) and leaves the status of the nodes alone. Node leases
 * are off: nobody in a lab watches them.
 */
export async function startKwok(options: {
  bin: string;
  dir: string;
  kubeconfig: string;
  port: number;
  podAccess?: PodAccess | undefined;
}): Promise<LabProcess> {
  const { bin, dir, kubeconfig, port, podAccess } = options;
  const access = join(dir, 'kwok-pods.yaml');
  if (podAccess) {
    writeFileSync(
      access,
      podAccessObjects(podAccess)
        .map((object) => stringify(object))
        .join('---\n'),
    );
  }
  const kwok = await startProcess({
    name: 'kwok',
    command: join(bin, 'kwok'),
    args: [
      `--kubeconfig=${kubeconfig}`,
      `--config=${stages}`,
      ...(podAccess ? [`--config=${access}`] : []),
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
