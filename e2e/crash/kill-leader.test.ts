import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bundleHub } from '../../hack/release/bundle.ts';
import { longRun, times } from '../../test/support/counts.ts';
import { eachOf } from '../lab/each.ts';
import { type Hub, startHub } from '../lab/hub.ts';
import { type Lab, startLab } from '../lab/lab.ts';
import { type LabNode, workerNodes } from '../lab/nodes.ts';
import { waitFor } from '../lab/wait.ts';
import { crashPoints, sharedOut } from '../support/crash-points.ts';
import { type KubeGate, startKubeGate } from '../support/kube-gate.ts';
import {
  begin,
  ended,
  expectReleased,
  fastFlags,
  faultLasts,
  kubeconfigThrough,
  ledgerNames,
  type NodeOperation,
  random,
} from '../support/operations.ts';
import { deletePod, runPod } from '../support/pods.ts';

/** Kills among which the points are shared out; each point is hit by an operation on a node of its own. */
const POINT_KILLS = 10;
const RANDOM_KILLS = times(20, 100);
const NODES = 40;

describe('the leader is killed', () => {
  let lab: Lab;
  let hub: Hub;
  let gate: KubeGate;
  let kills = 0;
  let pods = 0;
  let starting: Promise<void> = Promise.resolve();
  const begun = new Map<string, LabNode>();
  const free: LabNode[] = [];

  beforeAll(async () => {
    lab = await startLab({ nodes: workerNodes(NODES) });
    gate = await startKubeGate({ server: lab.apiServerURL, ca: lab.ca });
    lab.defer(gate.stop);
    hub = await startHub(lab, {
      replicas: 2,
      entry: await bundleHub(lab.dir),
      flags: () => [...fastFlags, `--kubeconfig=${kubeconfigThrough(lab, gate.url)}`],
    });
    free.push(...lab.nodes);
  });
  afterAll(() => lab?.stop());

  /** A node without an operation; those in use come back when their operation has ended. */
  async function takeNode(): Promise<LabNode> {
    return await waitFor(() => free.shift(), { what: 'a node without an operation', timeout: 120_000 });
  }

  async function beginDraining(node: LabNode): Promise<string> {
    const pod = `pod-of-${node.name}-${++pods}`;
    await runPod(lab, { name: pod, nodeName: node.name });
    const name = await begin(lab, node, { drain: true, evictUnmanaged: true, deleteEmptyDirData: true });
    begun.set(name, node);
    return name;
  }

  async function killLeader(): Promise<void> {
    const leader = await hub.waitForLeader();
    await hub.kill(leader);
    kills++;
    // The one that takes over is not waited for, so that a kill can hit a takeover too; but there are never more than two replicas down.
    await starting;
    starting = hub.start(leader);
    starting.catch(() => undefined);
  }

  /** The promise of every operation: it ends well, and its machine was restarted once. */
  async function finish(names: Iterable<string>): Promise<void> {
    await eachOf(names, 8, async (name) => {
      const operation: NodeOperation = await ended(lab, name);
      expect(operation.status, name).toMatchObject({ phase: 'Succeeded' });
    });
  }

  function expectOneCallEach(): void {
    const wanted = new Map<string, number>();
    for (const { instanceID } of begun.values()) wanted.set(instanceID, (wanted.get(instanceID) ?? 0) + 1);
    const accepted = new Map([...wanted.keys()].map((instanceID) => [instanceID, lab.ec2.gate.count('RebootInstances', instanceID)]));
    expect(accepted).toEqual(wanted);
    expect(lab.ec2.gate.count('RebootInstances')).toBe(begun.size);
  }

  async function expectNothingLeft(): Promise<void> {
    await eachOf(new Set(begun.values()), 8, (node) => expectReleased(lab, node));
    // What a crash left in the ledger is tidied up within a minute.
    await waitFor(async () => (await ledgerNames(lab)).length === 0, { what: 'the ledger to be empty', timeout: 90_000, interval: 500 });
  }

  test(`R54: kill -9 at each of ${crashPoints.length} points of an operation`, { timeout: longRun ? 3_600_000 : 300_000 }, async () => {
    for (let run = 0; run < times(1, 25); run++) {
      for (const points of sharedOut(crashPoints, POINT_KILLS)) {
        await hub.waitForLeader();
        const armed = await Promise.all(
          points.map(async (point) => {
            const node = await takeNode();
            return { point, node, ...point.arm(node, { lab, gate }) };
          }),
        );
        const names = await Promise.all(armed.map(({ node }) => beginDraining(node)));
        await Promise.all(
          armed.map(({ reached, point }) =>
            Promise.race([
              reached,
              faultLasts(60_000).then(() => {
                throw new Error(`the operation never came to: ${point.title}`);
              }),
            ]),
          ),
        );
        await killLeader();
        for (const { resume } of armed) resume();
        const back = finish(names).then(() => free.push(...armed.map(({ node }) => node)));
        // Judged at the end; until then the next kills hit these operations too.
        back.catch(() => undefined);
      }
      await starting;
      await finish(begun.keys());
      expectOneCallEach();
      await expectNothingLeft();
    }
  });

  test(`the leader is killed at ${RANDOM_KILLS} random moments`, { timeout: longRun ? 3_600_000 : 300_000 }, async () => {
    for (let kill = 0; kill < RANDOM_KILLS; kill++) {
      await hub.waitForLeader();
      const start = async () => {
        const node = await takeNode();
        const name = await beginDraining(node);
        // Judged at the end; here only the node comes back.
        finish([name]).then(
          () => free.push(node),
          () => undefined,
        );
      };
      await Promise.all([start(), start(), start()]);
      await faultLasts(random(800));
      await killLeader();
    }
    await starting;
    await finish(begun.keys());
    expectOneCallEach();
    await expectNothingLeft();
    expect(kills).toBeGreaterThanOrEqual(30);
  });

  test('a request that is repeated takes up what a replica wrote that died between the operation and its entry in the ledger', async () => {
    const node = await takeNode();
    // The first of the two writes is made, the second never is.
    const hold = gate.hold(
      'after',
      ({ method, path, body }) => method !== 'GET' && path.includes('/configmaps') && body.includes(`restart-${node.name}-`),
    );
    const asked = begin(lab, node);
    await hold.reached;
    // Either of the two may have taken the request.
    for (const { index } of hub.replicas) await hub.kill(index);
    hold.drop();
    await Promise.all(hub.replicas.map(({ index }) => hub.start(index)));
    const name = await asked;
    begun.set(name, node);
    await finish([name]);
    expectOneCallEach();
    await expectNothingLeft();
    await deletePod(lab, `pod-of-${node.name}`);
  });
});
