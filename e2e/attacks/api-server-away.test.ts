import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { longRun, times } from '../../test/support/counts.ts';
import { eachOf } from '../lab/each.ts';
import { type Hub, startHub } from '../lab/hub.ts';
import { type Lab, startLab } from '../lab/lab.ts';
import { isReady, type LabNode, workerNodes } from '../lab/nodes.ts';
import { waitFor } from '../lab/wait.ts';
import { type KubeGate, startKubeGate } from '../support/kube-gate.ts';
import { begin, ended, expectReleased, fastFlags, faultLasts, getNode, kubeconfigThrough, when } from '../support/operations.ts';
import { createBudget, deleteBudget, runPod } from '../support/pods.ts';
import { classifier } from '../support/points.ts';

const AWAY_MS = times(12_000, 60_000);

describe('the API server is away', () => {
  let lab: Lab;
  let hub: Hub;
  let gate: KubeGate;
  const reboots = ({ instanceID }: LabNode) => lab.ec2.gate.count('RebootInstances', instanceID);

  beforeAll(async () => {
    lab = await startLab({ nodes: workerNodes(10), downTime: 1_000 });
    gate = await startKubeGate({ server: lab.apiServerURL, ca: lab.ca });
    lab.defer(gate.stop);
    hub = await startHub(lab, {
      replicas: 2,
      flags: () => [...fastFlags, '--operation-timeout=180s', `--kubeconfig=${kubeconfigThrough(lab, gate.url)}`],
    });
  });
  afterAll(() => lab?.stop());

  test(`R59: away for ${AWAY_MS / 1_000} s in the middle of operations`, { timeout: longRun ? 600_000 : 180_000 }, async () => {
    const [waiting, called, answered, intended, draining, theirs, recordoned] = lab.nodes as [
      LabNode,
      LabNode,
      LabNode,
      LabNode,
      LabNode,
      LabNode,
      LabNode,
    ];
    await hub.waitForLeader();
    const { gate: ec2 } = lab.ec2;

    // One operation in each situation: the node is down, the call is on its way, its answer is, its intent has just been written, pods are evicted.
    lab.kubelet.setBehaviour(waiting.name, 'never-back');
    const hold = (node: LabNode, when: 'before' | 'after') =>
      ec2.inject({ action: 'RebootInstances', instanceID: node.instanceID, hold: when });
    const before = hold(called, 'before');
    const after = hold(answered, 'after');
    const named = classifier(intended);
    const intent = gate.hold('after', (request) => named(request) === 'intent of the call');
    for (const node of [draining, theirs, recordoned]) {
      await runPod(lab, { name: `guarded-${node.name}`, nodeName: node.name, labels: { guarded: node.name } });
      await createBudget(lab, `guarded-${node.name}`, { guarded: node.name });
    }
    expect((await lab.kubectl(['cordon', theirs.name])).code).toBe(0);
    const nodes = [waiting, called, answered, intended, draining, theirs, recordoned];
    const names = await Promise.all(nodes.map((node) => begin(lab, node, { drain: true, evictUnmanaged: true, drainTimeoutSeconds: 150 })));
    await Promise.all([
      waitFor(() => reboots(waiting) === 1 && reboots(answered) === 1 && before.hits() === 1, { what: 'the calls' }),
      intent.reached,
      ...names.slice(4).map((name) => when(lab, name, ({ status }) => status.podsToEvict === 1, 'to evict')),
    ]);
    // Somebody takes over the cordon that the operation made.
    expect((await lab.kubectl(['uncordon', recordoned.name])).code).toBe(0);
    expect((await lab.kubectl(['cordon', recordoned.name])).code).toBe(0);

    await lab.stopApiServer('SIGKILL');
    intent.drop();
    before.release();
    after.release();
    await faultLasts(AWAY_MS);
    await lab.startApiServer();
    for (const node of [draining, theirs, recordoned]) await deleteBudget(lab, `guarded-${node.name}`);
    // Machines that went down meanwhile come up; the kubelet of the lab may have given up while it could not reach the API server.
    await lab.kubelet.idle();
    for (const { name } of nodes) if (!isReady(await getNode(lab, name))) await lab.kubelet.boot(name);

    await eachOf(names, 8, async (name) => expect((await ended(lab, name, 120_000)).status, name).toMatchObject({ phase: 'Succeeded' }));
    expect(nodes.map(reboots)).toEqual(nodes.map(() => 1));
    for (const node of [waiting, called, answered, intended, draining]) await expectReleased(lab, node);
    for (const node of [theirs, recordoned]) await expectReleased(lab, node, true);
    await hub.waitForAvailable();
  });

  test('a leader that lost and won the Lease again took an old copy of the operation and restarted the machine twice', {
    timeout: 120_000,
  }, async () => {
    const node = lab.node(7);
    lab.kubelet.setBehaviour(node.name, 'never-back');
    const leader = await hub.waitForLeader();
    await hub.kill(1 - leader);
    const named = classifier(node);
    const intent = gate.hold('before', (request) => named(request) === 'intent of the call');
    const name = await begin(lab, node);
    await intent.reached;
    // From here on the leader learns nothing of its own writes by its watch.
    const thaw = gate.freezeWatches('/configmaps');
    intent.release();
    await when(lab, name, ({ status }) => status.phase === 'WaitingForReady', 'to wait');
    const lease = ({ path }: { path: string }) => path.endsWith('/leases/fairlead-hub');
    const allow = gate.refuse(503, lease);
    // As long as the leader tries, its hold on the Lease runs out after the renew deadline of 1.5 s; then it only looks whether it may lead again.
    let looks = 0;
    const unsubscribe = gate.onRequest((request) => {
      if (lease(request) && request.method === 'PUT') looks = 0;
      else if (lease(request)) looks++;
    });
    await waitFor(() => looks >= 3, { what: 'the leader to have given up' });
    unsubscribe();
    const again = gate.hold('before', (request) => request.method === 'GET' && request.path.endsWith(`/leases/node-${node.name}`));
    allow();
    await again.reached;
    again.release();
    await waitFor(async () => (await hub.leader()) === leader, { what: 'the replica to lead again' });
    // It goes through the operation once more from what it knows; a second call would come now.
    const resumed = performance.now();
    await waitFor(() => reboots(node) > 1 || performance.now() - resumed > 2_500, { what: 'a second call, or time to pass' });
    expect(reboots(node)).toBe(1);
    await lab.kubelet.boot(node.name);
    thaw();
    expect((await ended(lab, name)).status.phase).toBe('Succeeded');
    expect(reboots(node)).toBe(1);
    expect((await getNode(lab, node.name)).metadata.annotations).not.toHaveProperty(['infraops.michael.io/operation']);
    await hub.start(1 - leader);
  });
});
