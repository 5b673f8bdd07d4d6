import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { longRun } from '../../test/support/counts.ts';
import { noMachines } from '../lab/machine.ts';
import { waitFor } from '../lab/wait.ts';
import { CLUSTER, type Lifecycle, type MachineEnv, startMachineEnv } from './env.ts';

/** Without `make machine-tools` before it, the programs of two versions of Kubernetes are built here. */
const SETUP_MS = 2_400_000;
const OPERATION_MS = 600_000;

/** What stops this file from running; a skipped test says it. */
const reason = longRun ? noMachines() : 'takes 20 minutes: with make attacks';

let env: MachineEnv;
beforeAll(async () => {
  if (reason !== undefined) return;
  env = await startMachineEnv();
  await env.connected();
}, SETUP_MS);
afterAll(async () => {
  await env?.stop();
}, SETUP_MS);
beforeEach((context) => {
  if (reason !== undefined) context.skip(reason);
});

const SPEC = `apiVersion: v1alpha1
kind: Cluster
spec: {version: v1.36.3, networking: {podSubnet: 10.244.0.0/16, svcSubnet: 10.245.0.0/16}}
`;

type Cut = 'agent' | 'power';

/** Begins an operation, cuts the agent or the machine off when the named step, or a later one, runs, and returns how the operation ended. */
async function cutOff(begin: readonly string[], step: number, cut: Cut, input?: string): Promise<Lifecycle> {
  await env.ok(['infra', ...begin, '--wait=false'], input === undefined ? {} : { input });
  await waitFor(
    async () => {
      const { operation } = (await env.lifecycle()).status;
      const at = operation?.steps.findIndex(({ state }) => state === 'Running' || state === 'Pending') ?? -1;
      return at < 0 || at >= step || operation?.phase !== 'Running';
    },
    { what: `step ${step} of ${begin.join(' ')}`, timeout: OPERATION_MS, interval: 50 },
  );
  if (cut === 'agent') await env.killAgent();
  else {
    await env.machine.kill();
    await env.machine.start();
  }
  await env.connected();
  return await waitFor(
    async () => {
      const now = await env.lifecycle();
      const { phase } = now.status.operation ?? {};
      return (phase === 'Succeeded' || phase === 'Failed') && now;
    },
    { what: `${begin.join(' ')}, cut off at step ${step}, to end`, timeout: OPERATION_MS, interval: 500 },
  );
}

const kubectl = (...args: string[]) => env.machine.run(['kubectl', '--kubeconfig', '/etc/kubernetes/admin.conf', ...args]);

// Five rounds of install, rotate and delete, at other steps each time: 15 points; two upgrades more are in lifecycle.test.ts.
test.each([
  { install: 6, rotate: 1, delete: 1, cut: 'power' },
  { install: 10, rotate: 2, delete: 3, cut: 'agent' },
  { install: 14, rotate: 3, delete: 6, cut: 'power' },
  { install: 15, rotate: 4, delete: 9, cut: 'agent' },
  { install: 16, rotate: 2, delete: 12, cut: 'power' },
] as const)(
  'R64: install, rotate and delete cut off at steps $install, $rotate and $delete ($cut) end well by themselves',
  {
    timeout: 4 * OPERATION_MS,
  },
  async ({ install, rotate, delete: remove, cut }) => {
    const created = await cutOff(['lifecycle', 'create', CLUSTER, '-f', '-'], install, cut, SPEC);
    expect(created.status, created.status.operation?.message).toMatchObject({
      phase: 'Provisioned',
      operation: { type: 'Install', phase: 'Succeeded' },
    });
    await waitFor(async () => (await kubectl('wait', '--for=condition=Ready', 'node', '--all', '--timeout=5s')).includes('condition met'), {
      what: 'the node to be Ready',
      timeout: 120_000,
    });
    await kubectl('create', 'configmap', 'kept', '--from-literal=a=b');

    const rotated = await cutOff(['certs', CLUSTER, '--rotate'], rotate, cut);
    expect(rotated.status.operation, rotated.status.operation?.message).toMatchObject({ type: 'RotateCertificates', phase: 'Succeeded' });
    await waitFor(async () => (await kubectl('get', 'configmap', 'kept', '-o', 'jsonpath={.data.a}')) === 'b', {
      what: 'etcd to have what was in it',
      timeout: 120_000,
    });

    const deleted = await cutOff(['lifecycle', 'delete', CLUSTER, '--yes'], remove, cut);
    expect(deleted.status, deleted.status.operation?.message).toMatchObject({
      phase: 'Deleted',
      operation: { type: 'Delete', phase: 'Succeeded' },
    });
    expect((await env.machine.exec(['test', '-e', '/etc/kubernetes'])).code).toBe(1);
    expect((await env.machine.run(['ctr', '-n', 'k8s.io', 'tasks', 'ls', '-q'])).trim()).toBe('');
  },
);
