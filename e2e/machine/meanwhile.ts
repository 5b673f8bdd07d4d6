import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { startProcess } from '../lab/process.ts';
import { waitFor } from '../lab/wait.ts';
import { CLUSTER, type MachineEnv } from './env.ts';
import { OPERATION_MS } from './on-machines.ts';

/** What is done while an operation runs. */

/**
 * Follows the log by kubectl while `work` has an operation done, which has ended when it resolves. Rejects unless lines of all these steps have come, and the operation still ran
 * after the last of them.
 */
export async function followedWhile(env: MachineEnv, steps: readonly string[], work: () => Promise<unknown>): Promise<void> {
  const follower = await startProcess({
    name: 'kubectl',
    command: join(env.parent.bin, 'kubectl'),
    args: ['get', '--raw', `/apis/infraops.michael.io/v1/clusters/${CLUSTER}/log?follow=true`],
    env: env.parent.commandEnv(),
    log: join(env.parent.dir, 'followed.log'),
  });
  const done = new AbortController();
  const missing = () => {
    const lines = readFileSync(follower.log, 'utf8').split('\n');
    return steps.filter((step) => !lines.some((line) => line.split(' ')[1] === step));
  };
  async function told(): Promise<void> {
    await waitFor(
      () => {
        if (missing().length > 0) throw new Error(`nothing of ${missing().join(', ')}`);
        return true;
      },
      { what: 'lines of the steps while the operation runs', timeout: OPERATION_MS, signal: done.signal },
    );
    const { phase } = (await env.lifecycle()).status.operation ?? {};
    if (phase !== 'Running') throw new Error(`the last lines came when the operation was ${phase}`);
  }
  const finished = () =>
    done.abort(new Error(`the operation has ended, and the log that is followed has nothing of ${missing().join(', ')}`));
  try {
    await Promise.all([told(), work().finally(finished)]);
  } finally {
    await follower.stop();
  }
}

/** Writes a ConfigMap into the cluster once the upgrade that is about to run has saved etcd. Rejects when it was not written before the upgrade began to go back. */
export async function writtenAfterSnapshot(env: MachineEnv, name: string): Promise<void> {
  const upgrade = async () => {
    const { operation } = (await env.lifecycle()).status;
    return operation?.type === 'Upgrade' ? operation : undefined;
  };
  await waitFor(async () => (await upgrade())?.steps.some((step) => step.name === 'etcd-snapshot' && step.state === 'Done'), {
    what: 'the snapshot of etcd',
    timeout: OPERATION_MS,
    interval: 250,
  });
  const input = JSON.stringify({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace: 'default' } });
  // The API server is away while kubeadm exchanges etcd.
  await waitFor(
    () =>
      env.machine.run(['kubectl', '--kubeconfig', '/etc/kubernetes/admin.conf', 'apply', '-f', '-'], {
        input,
        env: { KUBECACHEDIR: '/tmp/kubectl' },
      }),
    { what: `ConfigMap ${name} to be written`, timeout: 90_000, interval: 200 },
  );
  const phase = (await upgrade())?.phase;
  if (phase !== 'Running') throw new Error(`ConfigMap ${name} was written when the upgrade was ${phase}: that shows nothing`);
}
