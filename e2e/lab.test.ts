import { execFileSync, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { DescribeInstancesCommand, RebootInstancesCommand, StartInstancesCommand, StopInstancesCommand } from '@aws-sdk/client-ec2';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type Lab, startLab } from './lab/lab.ts';
import { isReady, type KubeNode } from './lab/nodes.ts';
import { dyingWithUs } from './lab/process.ts';
import { waitFor } from './lab/wait.ts';

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

const addresses = () => execFileSync('ip', ['-4', 'addr', 'show'], { encoding: 'utf8' });

describe('lab', () => {
  let lab: Lab;
  const getNode = (name: string) => lab.api.json<KubeNode>('GET', `/api/v1/nodes/${name}`);

  beforeAll(async () => {
    lab = await startLab();
  });
  afterAll(() => lab?.stop());
  afterEach(async () => {
    await lab.kubelet.idle();
    lab.ec2.gate.reset();
  });

  test('five nodes are Ready, one of them a control plane, in two zones', async () => {
    const { stdout, code } = await lab.kubectl(['get', 'nodes', '-o', 'json']);
    expect(code).toBe(0);
    const { items } = JSON.parse(stdout) as { items: KubeNode[] };
    expect(items.map((node) => node.metadata.name)).toEqual(['control-plane-1', 'worker-1', 'worker-2', 'worker-3', 'worker-4']);
    expect(items.filter(isReady)).toHaveLength(5);
    expect(new Set(items.map((node) => node.metadata.labels?.['topology.kubernetes.io/zone']))).toEqual(
      new Set(['us-east-1a', 'us-east-1b']),
    );
    expect(items.filter((node) => node.spec.taints?.some(({ key }) => key === 'node-role.kubernetes.io/control-plane'))).toHaveLength(1);
    expect(items.flatMap((node) => node.spec.taints ?? [])).toHaveLength(1);
  });

  test('every ProviderID is an instance of EC2 in the zone that the node says', async () => {
    const { Reservations = [] } = await lab.ec2.client.send(new DescribeInstancesCommand({}));
    const instances = Reservations.flatMap((reservation) => reservation.Instances ?? []);
    const ids = instances.map((instance) => `aws:///${instance.Placement?.AvailabilityZone}/${instance.InstanceId}`);
    expect(ids.sort()).toEqual(lab.nodes.map((node) => node.providerID).sort());
    expect(instances.map((instance) => instance.State?.Name)).toEqual(Array(5).fill('running'));
  });

  test('a reboot through the AWS SDK takes the node down and brings it back with a new boot id', async () => {
    const { name, instanceID } = lab.node(1);
    const before = await getNode(name);
    await lab.ec2.client.send(new RebootInstancesCommand({ InstanceIds: [instanceID] }));
    await waitFor(async () => !isReady(await getNode(name)), { what: `${name} to be NotReady`, interval: 20 });
    const after = await waitFor(
      async () => {
        const node = await getNode(name);
        return isReady(node) && node;
      },
      { what: `${name} to be Ready again` },
    );
    expect(after.status.nodeInfo.bootID).not.toBe(before.status.nodeInfo.bootID);
    expect(lab.ec2.gate.count('RebootInstances', instanceID)).toBe(1);
    expect(lab.ec2.gate.count('RebootInstances')).toBe(1);
  });

  test('a dry run and an unknown instance are recorded, but not counted, and nothing boots', async () => {
    const { name, instanceID } = lab.node(2);
    const before = await getNode(name);
    const dryRun = lab.ec2.client.send(new RebootInstancesCommand({ InstanceIds: [instanceID], DryRun: true }));
    await expect(dryRun).rejects.toMatchObject({ name: 'DryRunOperation' });
    const unknown = lab.ec2.client.send(new RebootInstancesCommand({ InstanceIds: ['i-00000000000000000'] }));
    await expect(unknown).rejects.toMatchObject({ name: 'InvalidInstanceID.NotFound' });
    expect(lab.ec2.gate.calls().map(({ code, dryRun: dry, accepted }) => ({ code, dry, accepted }))).toEqual([
      { code: 'DryRunOperation', dry: true, accepted: false },
      { code: 'InvalidInstanceID.NotFound', dry: false, accepted: false },
    ]);
    expect(lab.ec2.gate.count('RebootInstances')).toBe(0);
    expect((await getNode(name)).metadata.resourceVersion).toBe(before.metadata.resourceVersion);
  });

  test('a stopped node stays NotReady until it is started, and then has a new boot id', async () => {
    const { name, instanceID } = lab.node(3);
    const before = await getNode(name);
    await lab.ec2.client.send(new StopInstancesCommand({ InstanceIds: [instanceID] }));
    await lab.kubelet.idle();
    expect(await lab.ec2.state(instanceID)).toBe('stopped');
    expect(isReady(await getNode(name))).toBe(false);
    await lab.ec2.client.send(new StartInstancesCommand({ InstanceIds: [instanceID] }));
    await lab.kubelet.idle();
    const after = await getNode(name);
    expect(isReady(after)).toBe(true);
    expect(after.status.nodeInfo.bootID).not.toBe(before.status.nodeInfo.bootID);
  });

  test('nodes can be told never to come back, to keep their boot id, and to ignore the reboot', async () => {
    const [silent, same, deaf] = [lab.node(1), lab.node(2), lab.node(4)];
    const before = await Promise.all([silent, same, deaf].map(({ name }) => getNode(name)));
    lab.kubelet.setBehaviour(silent.name, 'never-back');
    lab.kubelet.setBehaviour(same.name, 'same-boot-id');
    lab.kubelet.setBehaviour(deaf.name, 'deaf');
    const instances = [silent, same, deaf].map(({ instanceID }) => instanceID);
    await lab.ec2.client.send(new RebootInstancesCommand({ InstanceIds: instances }));
    await lab.kubelet.idle();
    const after = await Promise.all([silent, same, deaf].map(({ name }) => getNode(name)));
    expect(after.map(isReady)).toEqual([false, true, true]);
    expect(after.map((node) => node.status.nodeInfo.bootID)).toEqual(before.map((node) => node.status.nodeInfo.bootID));
    expect(after[1]?.metadata.resourceVersion).not.toBe(before[1]?.metadata.resourceVersion);
    expect(after[2]?.metadata.resourceVersion).toBe(before[2]?.metadata.resourceVersion);
    for (const { name } of [silent, same, deaf]) lab.kubelet.setBehaviour(name, 'normal');
    await lab.kubelet.boot(silent.name);
    expect(isReady(await getNode(silent.name))).toBe(true);
  });

  test('the gate answers errors, drops calls before and after their effect, and holds them', async () => {
    const { gate, client } = lab.ec2;
    const { instanceID } = lab.node(4);
    const reboot = (abortSignal?: AbortSignal) =>
      client.send(new RebootInstancesCommand({ InstanceIds: [instanceID] }), abortSignal ? { abortSignal } : {});

    gate.inject({ action: 'RebootInstances', times: 1, respond: { status: 403, code: 'UnauthorizedOperation' } });
    await expect(reboot()).rejects.toMatchObject({ name: 'UnauthorizedOperation', $metadata: { httpStatusCode: 403 } });
    expect(gate.count('RebootInstances')).toBe(0);

    // The SDK tries three times.
    const lost = gate.inject({ action: 'RebootInstances', drop: 'before' });
    await expect(reboot()).rejects.toThrow();
    expect(lost.hits()).toBe(3);
    expect(gate.count('RebootInstances')).toBe(0);
    lost.remove();

    const unanswered = gate.inject({ action: 'RebootInstances', instanceID, times: 1, drop: 'after' });
    await reboot();
    expect(unanswered.hits()).toBe(1);
    expect(gate.count('RebootInstances', instanceID)).toBe(2);

    const held = gate.inject({ action: 'RebootInstances', hold: 'after' });
    const call = reboot();
    await waitFor(() => gate.count('RebootInstances') === 3, { what: 'the held call to have its effect' });
    expect(await Promise.race([call.then(() => 'answered'), Promise.resolve('open')])).toBe('open');
    held.release();
    await call;
  });

  test('pods run on their nodes, and a user has only the rights that RBAC gives', async () => {
    const overrides = JSON.stringify({ spec: { nodeName: lab.node(1).name } });
    expect((await lab.kubectl(['run', 'pod', '--image=none', `--overrides=${overrides}`])).code).toBe(0);
    expect(await lab.kubectl(['wait', '--for=condition=Ready', 'pod/pod', '--timeout=20s'])).toMatchObject({ code: 0 });
    expect(await lab.kubectl(['delete', 'pod', 'pod', '--timeout=20s'])).toMatchObject({ code: 0 });
    const kubeconfig = lab.kubeconfigFor({ user: 'nobody-in-particular', groups: ['operators'] });
    const who = await lab.kubectl(['auth', 'whoami', '-o', 'jsonpath={.status.userInfo.username} {.status.userInfo.groups}'], {
      kubeconfig,
    });
    expect(who.stdout).toBe('nobody-in-particular ["operators","system:authenticated"]');
    const refused = await lab.kubectl(['get', 'nodes'], { kubeconfig });
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain('Forbidden');
  });

  test('the API server comes back on its address after a restart', async () => {
    await lab.restartApiServer();
    expect((await lab.kubectl(['get', 'nodes', '-o', 'name'])).stdout.trim().split('\n')).toHaveLength(5);
  });

  test('stop leaves no process, no address and no folder', async () => {
    const pids = [...lab.processes().map(({ pid }) => pid), lab.ec2.pid];
    expect(pids).toHaveLength(5);
    expect(pids.filter(alive)).toEqual(pids);
    expect(addresses()).toContain(`${lab.hubAddress}/`);
    await lab.stop();
    await lab.stop();
    expect(pids.filter(alive)).toEqual([]);
    if (lab.hubAddress.startsWith('198.51.100.')) expect(addresses()).not.toContain(`${lab.hubAddress}/`);
    expect(existsSync(lab.dir)).toBe(false);
  });
});

test.each(['SIGINT', 'SIGTERM'] as const)('%s to the process that holds a lab leaves nothing behind', async (signal) => {
  const module = fileURLToPath(new URL('lab/lab.ts', import.meta.url));
  const program = `
    const { startLab } = await import(${JSON.stringify(module)});
    const lab = await startLab({ nodes: [], kwok: false });
    const pids = [...lab.processes().map(({ pid }) => pid), lab.ec2.pid];
    console.log(JSON.stringify({ pids, dir: lab.dir, address: lab.hubAddress }));
    setInterval(() => {}, 60000);`;
  const child = spawn(...dyingWithUs(process.execPath, ['--input-type=module', '-e', program]), { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    const line = await new Promise<string>((resolve, reject) => {
      createInterface({ input: child.stdout }).once('line', resolve);
      child.once('exit', (code) => reject(new Error(`the program ended with ${code} before its lab was up`)));
    });
    const { pids, dir, address } = JSON.parse(line) as { pids: number[]; dir: string; address: string };
    expect(pids.filter(alive)).toHaveLength(4);
    const exited = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    expect(await exited).toBe(signal === 'SIGINT' ? 130 : 143);
    await waitFor(() => !pids.some(alive), { what: 'all processes of the lab to be gone', timeout: 5000 });
    expect(existsSync(dir)).toBe(false);
    if (address.startsWith('198.51.100.')) expect(addresses()).not.toContain(`${address}/`);
  } finally {
    child.kill('SIGKILL');
  }
});
