import { describe, expect, test } from 'vitest';
import type { MachineState } from '../lab/machine/state.ts';
import { waitFor } from '../lab/wait.ts';
import { CLUSTER, type MachineEnv, startMachineEnv } from './env.ts';
import { leftSince, OPERATION_MS, onMachines, stateOf } from './on-machines.ts';

const [OLD, NEW] = ['v1.35.4', 'v1.36.3'];
const SPEC = `apiVersion: v1alpha1
kind: Cluster
spec:
  version: ${OLD}
  networking: {podSubnet: 10.244.0.0/16, svcSubnet: 10.245.0.0/16}
  certificates: {validityPeriod: 24h}
`;

let env: MachineEnv;
/** Before the cluster, with the agent there and registered. */
let pristine: MachineState;

onMachines(async (teardown) => {
  env = await startMachineEnv({ init: 'none' });
  teardown.defer(env.stop);
});

const infra = (...args: string[]) => env.ok(['infra', ...args]);

/** Pids of the processes of a name, in order. */
async function pids(name: string): Promise<string[]> {
  return (await env.machine.exec(['pgrep', '-x', name])).stdout.split('\n').filter(Boolean);
}
/** The pid of the only process of a name. */
async function only(name: string): Promise<string> {
  const found = await pids(name);
  expect(found, name).toHaveLength(1);
  return found[0] ?? '';
}
/** Processes of the cluster that shall go on whatever happens to those that look after them. */
const containers = () => Promise.all(['etcd', 'kube-apiserver', 'kube-controller', 'kube-scheduler', 'kube-proxy', 'hello'].map(only));

/** Of those, the ones that a patch leaves alone: it restarts the control plane, and the kubelet, not its pods. */
const STAYING = ['kube-proxy', 'hello'];

/** Kills processes at once, and waits until each of the names is there again as one other process. */
async function killed(names: readonly string[], also: readonly string[] = []): Promise<void> {
  const before = await Promise.all(names.map(only));
  await env.machine.run(['kill', '-9', ...before, ...also]);
  await waitFor(
    async () => {
      const now = await Promise.all(names.map(pids));
      return now.every((found, index) => found.length === 1 && found[0] !== before[index]);
    },
    { what: `${names.join(' and ')} to run again`, timeout: 60_000, interval: 200 },
  );
}

/** Waits until a command in the pod is answered, through the tunnel and the kubelet. */
const greeted = () =>
  waitFor(async () => (await env.inside(['exec', 'hello', '--', '/hello', 'get', 'localhost', '8080'])).includes('hello from hello'), {
    what: 'an answer of the pod',
    timeout: 120_000,
    interval: 500,
  });

const agentAgain = async (before: string) => {
  await waitFor(async () => (await env.agentPid()) !== before, { what: 'the agent to be started again', timeout: 30_000 });
  await env.connected();
};

describe('a machine without systemd becomes a cluster', () => {
  test('its first process is another one, and the agent registers', async () => {
    expect((await env.machine.readFile('/proc/1/comm')).toString()).toBe('first-process\n');
    await env.connected();
    expect((await env.lifecycle()).status).toMatchObject({ phase: 'NotInitialised' });
    expect(await pids('containerd')).toEqual([]);
    pristine = await stateOf(env.machine);
  });

  test('create: the agent runs containerd and kubelet; a pod runs, and kubectl reaches it through the parent', {
    timeout: OPERATION_MS,
  }, async () => {
    await env.ok(['infra', 'lifecycle', 'create', CLUSTER, '-f', '-', '--timeout=15m'], { input: SPEC });
    const { status } = await env.lifecycle();
    expect(status).toMatchObject({ phase: 'Provisioned', kubernetesVersion: OLD, operation: { type: 'Install', phase: 'Succeeded' } });
    await env.grantInside();
    await env.inside(['wait', '--for=condition=Ready', `node/${CLUSTER}`, '--timeout=60s']);
    await env.inside(['run', 'hello', '--image=fairlead.test/hello:1', '--image-pull-policy=Never', '--port=8080']);
    await env.inside(['wait', '--for=condition=Ready', 'pod/hello', '--timeout=120s']);
    await greeted();
    const agent = await env.agentPid();
    for (const name of ['containerd', 'kubelet']) {
      const parent = await env.machine.run(['ps', '-o', 'ppid=', '-p', await only(name)]);
      expect(parent.trim(), name).toBe(agent);
    }
  });

  test('an agent that is killed takes nothing with it, and the next one starts nothing twice', { timeout: OPERATION_MS }, async () => {
    const services = () => Promise.all(['containerd', 'kubelet'].map(only));
    const before = [await services(), await containers()];
    const agent = await env.agentPid();
    await env.killAgent();
    await agentAgain(agent);
    await greeted();
    expect([await services(), await containers()]).toEqual(before);
  });

  test('kubelet and containerd that are killed run again, under an agent that did not start them; pods go on', {
    timeout: OPERATION_MS,
  }, async () => {
    const before = await containers();
    await killed(['kubelet', 'containerd']);
    await greeted();
    expect(await containers()).toEqual(before);
  });

  test('a kubelet that was killed together with the agent is started by the next one', { timeout: OPERATION_MS }, async () => {
    const [before, agent] = [await containers(), await env.agentPid()];
    await killed(['kubelet'], [agent]);
    await agentAgain(agent);
    await greeted();
    expect(await containers()).toEqual(before);
    expect((await env.lifecycle()).status.operation).toMatchObject({ type: 'Install', phase: 'Succeeded' });
  });

  test('restart-machine ends when the machine is back and the agent has started what ran', { timeout: OPERATION_MS }, async () => {
    const before = await env.machine.bootId();
    await infra('restart-machine', CLUSTER, '--timeout=10m');
    expect(await env.machine.bootId()).not.toBe(before);
    await greeted();
    await Promise.all(['containerd', 'kubelet'].map(only));
    expect(await env.machine.run(['ps', '-e', '-o', 'stat='])).not.toMatch(/^Z/m);
  });

  test('patch: the kubelet begins anew with its flag, the API server with its name; pods go on', { timeout: OPERATION_MS }, async () => {
    const [kubelet, pods] = [await only('kubelet'), await Promise.all(STAYING.map(only))];
    await infra(
      'lifecycle',
      'patch',
      CLUSTER,
      '--set=extraArgs.kubelet.v=3',
      '--set=apiServer.certSANs=edge-1.example.com',
      '--timeout=10m',
    );
    expect(await only('kubelet')).not.toBe(kubelet);
    expect(await env.machine.run(['ps', '-ww', '-o', 'args=', '-p', await only('kubelet')])).toContain(' --v=3');
    const served = 'echo | openssl s_client -connect 127.0.0.1:6443 2>/dev/null | openssl x509 -noout -ext subjectAltName';
    expect(await env.machine.run(['sh', '-c', served])).toContain('DNS:edge-1.example.com');
    await greeted();
    expect(await Promise.all(STAYING.map(only))).toEqual(pods);
  });

  test('rotate: certificates are new, and served', { timeout: OPERATION_MS }, async () => {
    const serial = 'echo | openssl s_client -connect 127.0.0.1:6443 2>/dev/null | openssl x509 -noout -serial';
    const served = () => env.machine.run(['sh', '-c', serial]);
    const before = await served();
    await infra('certs', CLUSTER, '--rotate', '--timeout=10m');
    expect(await served()).not.toBe(before);
    await greeted();
  });

  test('upgrade to the next version; what was stored is there', { timeout: OPERATION_MS }, async () => {
    await env.inside(['create', 'configmap', 'kept', '--from-literal=a=b']);
    await infra('lifecycle', 'upgrade', CLUSTER, `--version=${NEW}`, '--timeout=15m');
    const { status } = await env.lifecycle();
    expect(status).toMatchObject({ kubernetesVersion: NEW, operation: { type: 'Upgrade', phase: 'Succeeded' } });
    const kubelet = ['get', 'node', CLUSTER, '-o', 'jsonpath={.status.nodeInfo.kubeletVersion}'];
    expect(await env.inside(kubelet)).toBe(NEW);
    expect(await env.inside(['get', 'configmap', 'kept', '-o', 'jsonpath={.data.a}'])).toBe('b');
    await greeted();
    await Promise.all(['containerd', 'kubelet'].map(only));
  });

  test('delete leaves the machine as it was before, and no process', { timeout: OPERATION_MS }, async () => {
    await infra('lifecycle', 'delete', CLUSTER, '--yes', '--timeout=15m');
    expect((await env.lifecycle()).status.phase).toBe('Deleted');
    expect(await leftSince(pristine, env.machine)).toEqual([]);
    expect(await env.machine.run(['find', '/sys/fs/cgroup', '-type', 'd', '-name', 'kubepods*'])).toBe('');
    // Nobody runs containerd here without a cluster, nor does an agent that comes later: it would be asked for images.
    const agent = await env.agentPid();
    await env.killAgent();
    await agentAgain(agent);
    expect(await pids('containerd')).toEqual([]);
    const images = 'containerd 2>/dev/null & until ctr version >/dev/null 2>&1; do sleep 0.1; done; ctr -n k8s.io images ls -q; kill $!';
    expect(await env.machine.run(['bash', '-c', images])).toBe('');
  });
});
