import { createHash, randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { longRun } from '../../test/support/counts.ts';
import { noMachines } from '../lab/machine.ts';
import { waitFor } from '../lab/wait.ts';
import { CLUSTER, type Lifecycle, type MachineEnv, startMachineEnv } from './env.ts';
import { OPERATION_MS, onMachines } from './on-machines.ts';

let env: MachineEnv;
onMachines(
  async (teardown) => {
    env = await startMachineEnv();
    teardown.defer(env.stop);
    await env.connected();
  },
  longRun ? noMachines() : 'takes 25 minutes: with make attacks',
);

const [OLD, NEW] = ['v1.35.4', 'v1.36.3'];
const SPEC = `apiVersion: v1alpha1
kind: Cluster
spec: {version: ${OLD}, networking: {podSubnet: 10.244.0.0/16, svcSubnet: 10.245.0.0/16}}
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

const nodeReady = (version: string) =>
  waitFor(
    async () => {
      const said = await kubectl(
        'get',
        'node',
        '-o',
        'jsonpath={.items[*].status.nodeInfo.kubeletVersion} {.items[*].status.conditions[?(@.type=="Ready")].status}',
      );
      if (said !== `${version} True`) throw new Error(said);
      return true;
    },
    { what: `the node to be Ready with ${version}`, timeout: 180_000 },
  );

/** Of everything that etcd holds for a namespace of ours. */
async function dataHash(): Promise<string> {
  const found = await waitFor(() => kubectl('get', 'configmaps,secrets', '-n', 'kept', '-o', 'json', '--sort-by=.metadata.name'), {
    what: 'the API server to answer',
    timeout: 180_000,
  });
  const { items } = JSON.parse(found) as { items: { kind: string; metadata: { name: string; uid: string }; data: unknown }[] };
  expect(items.length).toBeGreaterThan(OBJECTS);
  return createHash('sha256')
    .update(JSON.stringify(items.map(({ kind, metadata: { name, uid }, data }) => [kind, name, uid, data])))
    .digest('hex');
}

const OBJECTS = 200;
async function fill(): Promise<void> {
  const item = (index: number) => ({
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: `object-${index}`, namespace: 'kept' },
    data: { bytes: randomBytes(512).toString('base64') },
  });
  const items = [
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'kept' } },
    ...Array.from({ length: OBJECTS }, (_, index) => item(index)),
  ];
  await env.machine.writeFile('/tmp/kept.json', JSON.stringify({ apiVersion: 'v1', kind: 'List', items }));
  await kubectl('apply', '-f', '/tmp/kept.json');
  // Made by the controller manager, later than the namespace.
  await waitFor(() => kubectl('get', 'configmap', 'kube-root-ca.crt', '-n', 'kept'), { what: 'the CA of the namespace', timeout: 60_000 });
}

// Five rounds of install, rotate, upgrade and delete, at other steps each time: 20 points.
test.each([
  { install: 6, rotate: 1, upgrade: 10, delete: 1, cut: 'power' },
  { install: 10, rotate: 2, upgrade: 11, delete: 3, cut: 'agent' },
  { install: 14, rotate: 3, upgrade: 7, delete: 6, cut: 'power' },
  { install: 15, rotate: 4, upgrade: 3, delete: 9, cut: 'agent' },
  { install: 16, rotate: 2, upgrade: 11, delete: 12, cut: 'power' },
] as const)(
  'R64: install, rotate, upgrade and delete cut off at steps $install, $rotate, $upgrade and $delete ($cut) end well by themselves',
  {
    timeout: 5 * OPERATION_MS,
  },
  async ({ install, rotate, upgrade, delete: remove, cut }) => {
    const created = await cutOff(['lifecycle', 'create', CLUSTER, '-f', '-'], install, cut, SPEC);
    expect(created.status, created.status.operation?.message).toMatchObject({
      phase: 'Provisioned',
      operation: { type: 'Install', phase: 'Succeeded' },
    });
    await nodeReady(OLD);
    await fill();
    const hash = await dataHash();

    const rotated = await cutOff(['certs', CLUSTER, '--rotate'], rotate, cut);
    expect(rotated.status.operation, rotated.status.operation?.message).toMatchObject({ type: 'RotateCertificates', phase: 'Succeeded' });
    expect(await dataHash()).toBe(hash);

    const upgraded = await cutOff(['lifecycle', 'upgrade', CLUSTER, `--version=${NEW}`], upgrade, cut);
    const { operation } = upgraded.status;
    // On the old version or on the new one, and healthy.
    expect(operation, operation?.message).toMatchObject({ type: 'Upgrade' });
    console.log(`R64: upgrade cut off at step ${upgrade} (${cut}): ${operation?.phase}, ${upgraded.spec?.version}`);
    expect(upgraded.spec?.version).toBe(operation?.phase === 'Succeeded' ? NEW : OLD);
    await nodeReady(upgraded.spec?.version ?? '');
    expect(await dataHash()).toBe(hash);

    const deleted = await cutOff(['lifecycle', 'delete', CLUSTER, '--yes'], remove, cut);
    expect(deleted.status, deleted.status.operation?.message).toMatchObject({
      phase: 'Deleted',
      operation: { type: 'Delete', phase: 'Succeeded' },
    });
    expect((await env.machine.exec(['test', '-e', '/etc/kubernetes'])).code).toBe(1);
    expect((await env.machine.run(['ctr', '-n', 'k8s.io', 'tasks', 'ls', '-q'])).trim()).toBe('');
  },
);
