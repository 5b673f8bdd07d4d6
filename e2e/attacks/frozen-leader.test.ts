import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bundleHub } from '../../hack/release/bundle.ts';
import { longRun, times } from '../../test/support/counts.ts';
import { eachOf } from '../lab/each.ts';
import { type Hub, startHub } from '../lab/hub.ts';
import { type Lab, startLab } from '../lab/lab.ts';
import { type LabNode, workerNodes } from '../lab/nodes.ts';
import { waitFor } from '../lab/wait.ts';
import { type CrashPoint, freezePoints, sharedOut } from '../support/crash-points.ts';
import { type FakeClock, fakeClock, findFaketime } from '../support/faketime.ts';
import { type KubeGate, startKubeGate } from '../support/kube-gate.ts';
import {
  begin,
  ended,
  expectReleased,
  fastFlags,
  faultLasts,
  isFinal,
  kubeconfigThrough,
  random,
  readOperation,
} from '../support/operations.ts';
import { runPod } from '../support/pods.ts';

const TIMEOUT = longRun ? 3_600_000 : 240_000;
/** Freezes among which the points are shared out. */
const FREEZES = 8;

describe('the leader is frozen, or its clock is wrong', () => {
  let lab: Lab;
  let hub: Hub;
  let gate: KubeGate;
  let clocks: FakeClock[] = [];
  let missing = '';
  let pods = 0;
  const begun: LabNode[] = [];
  const reboots = ({ instanceID }: LabNode) => lab.ec2.gate.count('RebootInstances', instanceID);

  beforeAll(async () => {
    lab = await startLab({ nodes: workerNodes(40) });
    gate = await startKubeGate({ server: lab.apiServerURL, ca: lab.ca });
    lab.defer(gate.stop);
    const found = await findFaketime();
    if ('library' in found) clocks = [0, 1].map((index) => fakeClock(found.library, join(lab.dir, `clock-${index}`)));
    else missing = found.missing;
    // Certificates from files: a hub with a wrong clock would make itself one that is not valid yet.
    hub = await startHub(lab, {
      replicas: 2,
      certificates: 'files',
      entry: await bundleHub(lab.dir),
      flags: () => [...fastFlags, `--kubeconfig=${kubeconfigThrough(lab, gate.url)}`],
      env: (index) => clocks[index]?.env ?? {},
    });
  });
  afterAll(async () => {
    // A process that is stopped does not end by SIGTERM.
    for (const { process: proc } of hub?.replicas ?? []) if (proc?.running()) process.kill(proc.pid, 'SIGCONT');
    await lab?.stop();
  });

  async function beginDraining(node: LabNode): Promise<string> {
    await runPod(lab, { name: `pod-of-${node.name}-${++pods}`, nodeName: node.name });
    begun.push(node);
    return await begin(lab, node, { drain: true, evictUnmanaged: true });
  }

  async function expectAllDoneOnce(names: readonly string[]): Promise<void> {
    await eachOf(names, 8, async (name) => expect((await ended(lab, name)).status, name).toMatchObject({ phase: 'Succeeded' }));
    const counts = new Map<string, number>();
    for (const { name } of begun) counts.set(name, (counts.get(name) ?? 0) + 1);
    for (const [name, count] of counts) expect(lab.nodes.filter((node) => node.name === name).map(reboots), name).toEqual([count]);
    expect(lab.ec2.gate.count('RebootInstances')).toBe(begun.length);
  }

  /** Stops the leader at the given points, lets the other replica take over, and wakes it up at once or when the other one has ended the operations. */
  async function freezeAt(points: readonly CrashPoint[], nodes: readonly LabNode[], wake: 'early' | 'late'): Promise<string[]> {
    const leader = await hub.waitForLeader();
    const successor = hub.replica(1 - leader);
    const armed = points.flatMap((point, index) => {
      const node = nodes[index];
      return node ? [{ node, ...point.arm(node, { lab, gate }) }] : [];
    });
    const names = await Promise.all(armed.map(({ node }) => beginDraining(node)));
    await Promise.all(armed.map(({ reached }) => reached));
    const isTaken = async (name: string) => {
      const operation = await readOperation(lab, name);
      return isFinal(operation) || (wake === 'early' && operation.status.holder === successor.identity);
    };
    await frozen(leader, async () => {
      // A call of the cloud gets there at once, because a later one is beyond what anybody can know. Other requests arrive when it is too late.
      for (const { resume, urgent } of armed) if (urgent) resume();
      await waitFor(async () => (await hub.leader()) === successor.index, { what: 'the other replica to lead' });
      const taken = async () => (await Promise.all(names.map(isTaken))).every(Boolean);
      await waitFor(taken, { what: 'the other replica to take over the operations' });
      for (const { resume } of armed) resume();
    });
    return names;
  }

  async function frozen(index: number, during: () => Promise<void>): Promise<void> {
    const pid = hub.replica(index).process?.pid ?? 0;
    process.kill(pid, 'SIGSTOP');
    try {
      await during();
    } finally {
      process.kill(pid, 'SIGCONT');
    }
  }

  test(`R55: the leader is frozen at each of ${freezePoints.length} points and wakes up when another one leads`, {
    timeout: TIMEOUT,
  }, async () => {
    const names: string[] = [];
    for (let run = 0; run < times(1, 13); run++) {
      for (const [group, points] of sharedOut(freezePoints, FREEZES).entries()) {
        const nodes = lab.nodes.slice(group * 5, group * 5 + points.length);
        const now = await freezeAt(points, nodes, (run + group) % 2 === 0 ? 'late' : 'early');
        names.push(...now);
        if (longRun) await expectAllDoneOnce(now);
      }
    }
    await expectAllDoneOnce(names);
    // A write that the frozen one made after waking up, past the end of the operation, is taken back.
    const clean = () => eachOf(new Set(begun), 8, (node) => expectReleased(lab, node)).then(() => true);
    await waitFor(clean, { what: 'everything to be released', timeout: 30_000, interval: 500 });
  });

  const pauses = times(4, 100);
  test(`R55: the leader is frozen at ${pauses} random moments`, { timeout: TIMEOUT }, async () => {
    const names: string[] = [];
    for (let run = 0; run < pauses; run++) {
      const leader = await hub.waitForLeader();
      const now = await Promise.all(lab.nodes.slice((run % 8) * 5, (run % 8) * 5 + 5).map(beginDraining));
      names.push(...now);
      await faultLasts(random(1_200));
      await frozen(leader, async () => {
        await waitFor(async () => (await hub.leader()) === 1 - leader, { what: 'the other replica to lead' });
        await faultLasts(random(500));
      });
      if (longRun) await expectAllDoneOnce(now);
    }
    await expectAllDoneOnce(names);
  });

  const steps = times(6, 200);
  test(`R56: clocks of both replicas step by an hour and run twice as fast, ${steps} times`, { timeout: TIMEOUT }, async (context) => {
    if (missing) context.skip(missing);
    const names: string[] = [];
    let transitions = await leaseTransitions();
    for (let run = 0; run < steps; run++) {
      const leader = await hub.waitForLeader();
      const now = await Promise.all(lab.nodes.slice((run % 8) * 5, (run % 8) * 5 + 5).map(beginDraining));
      names.push(...now);
      await faultLasts(random(600));
      // Forwards, back, and faster, for the leader or for the one that waits for its Lease to end.
      const specification = ['+3600', '+0', '+0 x2', '+7200', '+3600', '+3600 x2'][run % 6] ?? '+0';
      const which = run % 2 === 0 ? leader : 1 - leader;
      clocks[which]?.set(specification);
      if (which === leader && specification.startsWith('+3600')) {
        const ahead = async () => Date.parse((await lease()).renewTime) - Date.now() > 3_000_000;
        await waitFor(ahead, { what: 'the leader to write times of its own clock' });
      }
      await eachOf(now, 5, async (name) => {
        await ended(lab, name);
      });
      // Nobody takes the Lease of a leader that renews it, whatever the clocks say.
      expect(await hub.leader()).toBe(leader);
      expect(await leaseTransitions()).toBe(transitions);
      if (run % 3 === 2) {
        await hub.kill(leader);
        await hub.waitForLeader();
        await hub.start(leader);
        transitions = await leaseTransitions();
      }
    }
    for (const clock of clocks) clock.set('+0');
    await expectAllDoneOnce(names);
  });

  async function lease(): Promise<{ leaseTransitions?: number; renewTime: string }> {
    type Lease = { spec: { leaseTransitions?: number; renewTime: string } };
    const path = `/apis/coordination.k8s.io/v1/namespaces/${hub.namespace}/leases/fairlead-hub`;
    return (await lab.api.json<Lease>('GET', path)).spec;
  }

  const leaseTransitions = async () => (await lease()).leaseTransitions ?? 0;
});
