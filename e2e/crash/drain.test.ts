import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startHub } from '../lab/hub.ts';
import { type Lab, startLab } from '../lab/lab.ts';
import { type LabNode, workerNodes } from '../lab/nodes.ts';
import { waitFor } from '../lab/wait.ts';
import { type KubeGate, startKubeGate } from '../support/kube-gate.ts';
import { begin, ended, expectReleased, fastFlags, getNode, kubeconfigThrough, when } from '../support/operations.ts';
import { createBudget, createOwner, deleteBudget, podExists, runPod } from '../support/pods.ts';

describe.concurrent('draining', () => {
  let lab: Lab;
  let gate: KubeGate;
  let taken = 0;
  const takeNode = (): LabNode => lab.node(taken++);
  const reboots = ({ instanceID }: LabNode) => lab.ec2.gate.count('RebootInstances', instanceID);
  const cancel = (name: string) => lab.api.request('POST', `/apis/infraops.michael.io/v1/nodeoperations/${name}/cancel`, { body: {} });

  beforeAll(async () => {
    lab = await startLab({ nodes: workerNodes(12) });
    gate = await startKubeGate({ server: lab.apiServerURL, ca: lab.ca });
    lab.defer(gate.stop);
    await startHub(lab, { flags: () => [...fastFlags, `--kubeconfig=${kubeconfigThrough(lab, gate.url)}`] });
  });
  afterAll(() => lab?.stop());

  /** A node with a pod of each kind that kubectl drain tells apart. */
  async function nodeWithPods() {
    const node = takeNode();
    const [daemonSet, statefulSet] = await Promise.all([
      createOwner(lab, 'DaemonSet', `ds-${node.name}`),
      createOwner(lab, 'StatefulSet', `sts-${node.name}`),
    ]);
    const name = (kind: string) => `${kind}-${node.name}`;
    const on = { nodeName: node.name };
    await Promise.all([
      runPod(lab, { ...on, name: name('daemon'), ownerReferences: [daemonSet] }),
      runPod(lab, { ...on, name: name('mirror'), annotations: { 'kubernetes.io/config.mirror': 'hash' } }),
      runPod(lab, { ...on, name: name('managed'), ownerReferences: [statefulSet] }),
      runPod(lab, { ...on, name: name('empty'), ownerReferences: [statefulSet], volumes: [{ name: 'scratch', emptyDir: {} }] }),
      runPod(lab, { ...on, name: name('bare') }),
    ]);
    const left = async () => {
      const kinds = ['daemon', 'mirror', 'managed', 'empty', 'bare'];
      const there = await Promise.all(kinds.map((kind) => podExists(lab, name(kind))));
      return kinds.filter((_, index) => there[index]);
    };
    return { node, left };
  }

  /** A node with one pod that a PodDisruptionBudget does not let go. */
  async function nodeWithBudget() {
    const node = takeNode();
    const pod = `guarded-${node.name}`;
    await runPod(lab, { name: pod, nodeName: node.name, labels: { guarded: node.name } });
    await createBudget(lab, pod, { guarded: node.name });
    return { node, pod, release: () => deleteBudget(lab, pod) };
  }
  const evictionOf = (pod: string) => (request: { method: string; path: string }) =>
    request.method === 'POST' && request.path.endsWith(`/pods/${pod}/eviction`);

  test('a node with pods that would lose data or not come back is not drained, and says why', async () => {
    const { node, left } = await nodeWithPods();
    const operation = await ended(lab, await begin(lab, node, { drain: true }));
    expect(operation.status).toMatchObject({ phase: 'Failed', reason: 'DrainRefused' });
    expect(operation.status.message).toContain(`default/empty-${node.name} keeps data in emptyDir (deleteEmptyDirData)`);
    expect(operation.status.message).toContain(`default/bare-${node.name} has no controller`);
    expect(await left()).toEqual(['daemon', 'mirror', 'managed', 'empty', 'bare']);
    expect(reboots(node)).toBe(0);
    await expectReleased(lab, node);
  });

  test('DaemonSet pods refuse the drain when they are not to be ignored', async () => {
    const { node, left } = await nodeWithPods();
    const options = { drain: true, ignoreDaemonSets: false, deleteEmptyDirData: true, evictUnmanaged: true };
    const operation = await ended(lab, await begin(lab, node, options));
    expect(operation.status).toMatchObject({ phase: 'Failed', reason: 'DrainRefused' });
    expect(operation.status.message).toContain(`default/daemon-${node.name} belongs to a DaemonSet`);
    expect(await left()).toHaveLength(5);
    expect(reboots(node)).toBe(0);
    await expectReleased(lab, node);
  });

  test('everything but DaemonSet and mirror pods is evicted before the machine is restarted', async () => {
    const { node, left } = await nodeWithPods();
    let leftAtCall: Promise<string[]> | undefined;
    const unsubscribe = lab.ec2.gate.onAccepted((call) => {
      if (call.instanceIDs.includes(node.instanceID)) leftAtCall = left();
    });
    const operation = await ended(lab, await begin(lab, node, { drain: true, deleteEmptyDirData: true, evictUnmanaged: true }));
    unsubscribe();
    expect(operation.status).toMatchObject({ phase: 'Succeeded', podsToEvict: 3, podsEvicted: 3 });
    expect(await leftAtCall).toEqual(['daemon', 'mirror']);
    expect(reboots(node)).toBe(1);
    await expectReleased(lab, node);
  });

  test('an eviction that a disruption budget holds up goes through when the budget lets it', async () => {
    const { node, pod, release } = await nodeWithBudget();
    let asked = 0;
    gate.onRequest((request) => {
      if (evictionOf(pod)(request)) asked++;
    });
    const name = await begin(lab, node, { drain: true, evictUnmanaged: true });
    await waitFor(() => asked > 0, { what: 'an eviction to be asked for' });
    const during = await when(lab, name, ({ status }) => status.phase === 'Draining', 'to drain');
    expect(during.status).toMatchObject({ podsToEvict: 1, podsEvicted: 0 });
    expect((await getNode(lab, node.name)).spec.unschedulable).toBe(true);
    expect(await podExists(lab, pod)).toBe(true);
    expect(reboots(node)).toBe(0);
    await release();
    expect((await ended(lab, name)).status.phase).toBe('Succeeded');
    expect(asked).toBeGreaterThan(1);
    expect(reboots(node)).toBe(1);
    await expectReleased(lab, node);
  });

  test('a drain that takes too long fails and uncordons the node at once', async () => {
    const { node, pod } = await nodeWithBudget();
    const name = await begin(lab, node, { drain: true, evictUnmanaged: true, drainTimeoutSeconds: 3 });
    const { status } = await ended(lab, name);
    expect(status).toMatchObject({ phase: 'Failed', reason: 'DrainTimeout' });
    const draining = status.history?.find(({ phase }) => phase === 'Draining')?.time ?? '';
    const took = Date.parse(status.completionTime ?? '') - Date.parse(draining);
    expect(took).toBeGreaterThanOrEqual(2_900);
    expect(took).toBeLessThan(8_000);
    expect(await podExists(lab, pod)).toBe(true);
    expect(reboots(node)).toBe(0);
    await expectReleased(lab, node);
  });

  test('a node that was cordoned before stays cordoned', async () => {
    const node = takeNode();
    expect((await lab.kubectl(['cordon', node.name])).code).toBe(0);
    const { status } = await ended(lab, await begin(lab, node, { drain: true }));
    expect(status).toMatchObject({ phase: 'Succeeded' });
    expect(reboots(node)).toBe(1);
    await expectReleased(lab, node, true);
  });

  test('a node that somebody cordons anew while it is drained stays cordoned', async () => {
    const { node, release } = await nodeWithBudget();
    const name = await begin(lab, node, { drain: true, evictUnmanaged: true });
    await waitFor(async () => (await getNode(lab, node.name)).spec.unschedulable, { what: 'the node to be cordoned' });
    expect((await lab.kubectl(['uncordon', node.name])).code).toBe(0);
    expect((await lab.kubectl(['cordon', node.name])).code).toBe(0);
    await release();
    expect((await ended(lab, name)).status.phase).toBe('Succeeded');
    await expectReleased(lab, node, true);
  });

  test('cancelling while it drains uncordons the node, and the cloud is never called', async () => {
    const { node, pod, release } = await nodeWithBudget();
    const name = await begin(lab, node, { drain: true, evictUnmanaged: true });
    await when(lab, name, ({ status }) => status.podsToEvict === 1, 'to evict');
    expect((await cancel(name)).status).toBe(201);
    const { status } = await ended(lab, name);
    expect(status).toMatchObject({ phase: 'Cancelled', reason: 'Cancelled' });
    expect(status.message).toContain('fairlead-admin');
    expect(status.calls ?? []).toEqual([]);
    await release();
    expect(await podExists(lab, pod)).toBe(true);
    expect(reboots(node)).toBe(0);
    expect((await cancel(name)).status).toBe(409);
    await expectReleased(lab, node);
  });

  test('cancelling is refused once the cloud has been called', async () => {
    const node = takeNode();
    const call = lab.ec2.gate.inject({ action: 'RebootInstances', instanceID: node.instanceID, hold: 'after' });
    const name = await begin(lab, node);
    await waitFor(() => reboots(node) === 1, { what: 'the call' });
    const refused = await cancel(name);
    expect(refused.status).toBe(409);
    expect(refused.text).toContain('the cloud has been called already');
    call.release();
    expect((await ended(lab, name)).status.phase).toBe('Succeeded');
    expect(reboots(node)).toBe(1);
  });

  test('pods were evicted on after the drain had failed and the node was uncordoned', async () => {
    const { node, pod, release } = await nodeWithBudget();
    const other = `forbidden-${node.name}`;
    await runPod(lab, { name: other, nodeName: node.name });
    let guardedAsked = 0;
    gate.onRequest((request) => {
      if (evictionOf(pod)(request)) guardedAsked++;
    });
    // The other one fails for good, but only after the guarded one has been asked for once.
    const held = gate.hold('before', evictionOf(other));
    gate.refuse(403, evictionOf(other));
    const name = await begin(lab, node, { drain: true, evictUnmanaged: true });
    await waitFor(() => guardedAsked > 0, { what: 'the guarded pod to be asked for' });
    held.drop();
    const { status } = await ended(lab, name);
    expect(status).toMatchObject({ phase: 'Failed', reason: 'DrainFailed' });
    const before = guardedAsked;
    await release();
    // A worker that had not been stopped would ask again within its pause of 5 s.
    const failed = performance.now();
    await waitFor(() => performance.now() - failed > 7_000 || guardedAsked > before, { what: 'time to pass' });
    expect(guardedAsked).toBe(before);
    expect(await podExists(lab, pod)).toBe(true);
    await expectReleased(lab, node);
  });

  test('a boot of its own while the node was drained passed for the restart', async () => {
    const { node, release } = await nodeWithBudget();
    lab.kubelet.setBehaviour(node.name, 'deaf');
    const name = await begin(lab, node, { drain: true, evictUnmanaged: true, timeoutSeconds: 4 });
    await when(lab, name, ({ status }) => status.podsToEvict === 1, 'to evict');
    await lab.kubelet.boot(node.name);
    await release();
    const { status } = await ended(lab, name);
    expect(status).toMatchObject({ phase: 'Failed', reason: 'BootIDUnchanged' });
    expect(reboots(node)).toBe(1);
  });
});
