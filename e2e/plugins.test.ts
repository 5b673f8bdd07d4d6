import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { startHub } from './lab/hub.ts';
import { type CommandResult, runCommand } from './lab/kubectl.ts';
import { type Lab, startLab } from './lab/lab.ts';
import type { KubeNode, LabNode } from './lab/nodes.ts';
import { waitFor } from './lab/wait.ts';
import { fastFlags } from './support/operations.ts';

let lab: Lab;
let folder: string;

beforeAll(async () => {
  lab = await startLab();
  folder = join(lab.dir, 'plugins');
  const build = fileURLToPath(new URL('../hack/build.ts', import.meta.url));
  const [built] = await Promise.all([
    runCommand(process.execPath, [build, '--only=plugins', `--out=${folder}`], { env: lab.commandEnv() }),
    startHub(lab, { flags: [...fastFlags] }),
  ]);
  expect(built, built.stderr).toMatchObject({ code: 0 });
});
afterAll(() => lab?.stop());
afterEach(async () => {
  await lab.kubelet.idle();
  lab.ec2.gate.reset();
});

/** The real kubectl, which finds the plugins in PATH. */
async function kubectl(args: readonly string[], kubeconfig?: string): Promise<CommandResult> {
  const env = lab.commandEnv(kubeconfig);
  return await runCommand(join(lab.bin, 'kubectl'), args, {
    env: { ...env, PATH: `${folder}:${join(process.execPath, '..')}:${env.PATH}` },
    timeout: 120_000,
  });
}
const bootID = async (node: LabNode) => (await lab.api.json<KubeNode>('GET', `/api/v1/nodes/${node.name}`)).status.nodeInfo.bootID;
const reboots = (node: LabNode) => lab.ec2.gate.count('RebootInstances', node.instanceID);

describe('kubectl restart', () => {
  test('restarts the machine under a node and ends when the node is back', async () => {
    const node = lab.node(1);
    const before = await bootID(node);
    const { code, stdout, stderr } = await kubectl(['restart', node.name, '--reason=kernel update']);
    expect({ code, stderr }).toMatchObject({ code: 0 });
    expect(stdout).toMatch(new RegExp(`^node/${node.name} restarted \\(\\d+s, operation \\S+\\)\\n$`));
    expect(stderr).toContain(`${node.name}: Succeeded`);
    expect(await bootID(node)).not.toBe(before);
    expect(reboots(node)).toBe(1);
  });

  test('a server dry run shows every guard and changes nothing', async () => {
    const node = lab.node(2);
    const fine = await kubectl(['restart', node.name, '--dry-run=server']);
    expect(fine).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^node\/\S+: restart would be accepted: all \d+ guards pass \(server dry run\)\n {2}pass {4}/),
    });
    const refused = await kubectl(['restart', 'control-plane-1', '--dry-run=server']);
    expect(refused).toMatchObject({ code: 3, stdout: expect.stringContaining('REFUSE  ControlPlaneQuorum') });
    expect(reboots(node) + reboots(lab.node(0))).toBe(0);
  });

  test('a guard refuses: exit code 3, the evidence, and nothing happens', async () => {
    const { code, stdout, stderr } = await kubectl(['restart', 'control-plane-1']);
    expect({ code, stdout }, stderr).toEqual({ code: 3, stdout: '' });
    expect(stderr).toMatch(/^refused: restart of node control-plane-1 by \d guards?\n {2}ControlPlaneQuorum: /);
    expect(reboots(lab.node(0))).toBe(0);
  });

  test('two nodes one after another, drained, as JSON', async () => {
    const nodes = [lab.node(2), lab.node(3)];
    const { code, stdout, stderr } = await kubectl(['restart', ...nodes.map(({ name }) => name), '--drain', '-ojson']);
    expect({ code, stderr }).toMatchObject({ code: 0 });
    const { items } = JSON.parse(stdout) as {
      items: { spec: object; status: { phase: string; startTime: string; completionTime: string } }[];
    };
    expect(items).toMatchObject(nodes.map(({ name }) => ({ spec: { nodeName: name, drain: true }, status: { phase: 'Succeeded' } })));
    const [first, second] = items.map(({ status }) => status);
    expect(Date.parse(second?.startTime ?? '')).toBeGreaterThanOrEqual(Date.parse(first?.completionTime ?? ''));
    expect(nodes.map(reboots)).toEqual([1, 1]);
  });

  test('waiting survives a restart of kube-apiserver', async () => {
    const node = lab.node(4);
    lab.kubelet.setDownTime(4_000);
    const running = kubectl(['restart', node.name]);
    try {
      await waitFor(() => reboots(node) === 1, { what: 'the reboot' });
      await lab.restartApiServer();
    } finally {
      lab.kubelet.setDownTime(300);
    }
    const { code, stderr } = await running;
    expect({ code, stderr }).toMatchObject({ code: 0 });
    expect(reboots(node)).toBe(1);
  });

  test('a ServiceAccount that may restart one node restarts that one, and no other', async () => {
    const manifest = fileURLToPath(new URL('rbac.yaml', import.meta.url));
    expect(await lab.kubectl(['apply', '-f', '-'], { input: readFileSync(manifest, 'utf8') })).toMatchObject({ code: 0 });
    const config = await lab.serviceAccountKubeconfig('default', 'node-restarter');
    await waitFor(async () => (await kubectl(['restart', 'worker-1', '--force'], config)).stderr.includes('force'), {
      what: 'the roles to count',
    });
    expect(await kubectl(['restart', 'worker-1'], config)).toMatchObject({ code: 0 });
    const other = await kubectl(['restart', 'worker-2'], config);
    expect(other).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('from server (Forbidden): nodes.infraops.michael.io "worker-2" is forbidden'),
    });
  });
});

describe('kubectl infra', () => {
  test('nodes, operations and instance show what the hub and the cloud say', async () => {
    const nodes = await kubectl(['infra', 'nodes']);
    expect(nodes).toMatchObject({ code: 0, stderr: '' });
    expect(nodes.stdout).toMatch(/^NAME +STATUS/);
    expect(nodes.stdout.trimEnd().split('\n')).toHaveLength(1 + lab.nodes.length);
    const operations = await kubectl(['infra', 'operations', '--node', lab.node(1).name, '-oname']);
    expect(operations.stdout).toMatch(/^nodeoperation\.infraops\.michael\.io\/\S+\n/);
    const named = await kubectl(['infra', 'operations', operations.stdout.split('\n')[0] ?? '', '-ojsonpath={.spec.reason}']);
    expect(named.code).toBe(0);
    const instance = await kubectl(['infra', 'instance', lab.node(1).name]);
    expect(instance.stdout).toMatch(new RegExp(`^Instance: +${lab.node(1).instanceID}$`, 'm'));
    expect(instance.stdout).toMatch(/^Power: +Running$/m);
  });

  test('stop and start', async () => {
    const node = lab.node(4);
    expect(await kubectl(['infra', 'stop', node.name, '--force'])).toMatchObject({
      code: 0,
      stdout: expect.stringContaining(`node/${node.name} stopped`),
    });
    expect((await kubectl(['infra', 'instance', node.name, '-ojsonpath={.status.powerState}'])).stdout).toBe('Stopped');
    expect(await kubectl(['infra', 'start', node.name, '--force'])).toMatchObject({
      code: 0,
      stdout: expect.stringContaining(`node/${node.name} started`),
    });
  });

  test('cancel of an operation that has ended is a conflict, and logs tell of it', async () => {
    const [name = ''] = (await kubectl(['infra', 'operations', '--node', lab.node(1).name, '-oname'])).stdout.split('\n');
    expect(await kubectl(['infra', 'cancel', name])).toMatchObject({ code: 1, stderr: expect.stringContaining('from server (Conflict)') });
    const logs = await kubectl(['infra', 'logs', lab.node(1).name]);
    expect(logs).toMatchObject({ code: 0, stdout: expect.stringContaining('Succeeded') });
  });

  test('version sees both sides', async () => {
    expect(await kubectl(['infra', 'version'])).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/Kubernetes: {2}v1\..*\nHub API: {5}infraops\.michael\.io\/v1 \(nodes, /),
    });
  });
});

test('kubectl completes the names of nodes with readiness and last restart', async () => {
  const { stdout } = await kubectl(['__complete', 'restart', 'worker-']);
  expect(stdout).toMatch(/^worker-1\tReady · restarted .* ago by \S+$/m);
  expect(stdout).toMatch(/^:4$/m);
});
