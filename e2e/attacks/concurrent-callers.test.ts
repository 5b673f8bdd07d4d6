import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { longRun, times } from '../../test/support/counts.ts';
import { startHub } from '../lab/hub.ts';
import { type Lab, startLab } from '../lab/lab.ts';
import { isReady, type KubeNode, type NodeSpec, workerNodes } from '../lab/nodes.ts';
import { waitFor } from '../lab/wait.ts';
import { fastFlags, faultLasts, ledgerNames, postAction, random } from '../support/operations.ts';
import { watchObjects } from '../support/watch.ts';

const CALLERS = times(20, 50);
const SCHEDULES = times(3, 100);
/** Requests of one caller in one schedule. */
const REQUESTS = 6;

const controlPlane: NodeSpec[] = [1, 2, 3].map((n) => ({
  name: `control-plane-${n}`,
  zone: n === 2 ? 'us-east-1b' : 'us-east-1a',
  controlPlane: true,
}));

describe('many callers at once', () => {
  let lab: Lab;

  beforeAll(async () => {
    lab = await startLab({ nodes: [...controlPlane, ...workerNodes(27)], downTime: 200 });
    // Budgets as they are by default (10 % of the cluster, 10 % of each zone); only the pause between restarts of one node is off.
    const flags = fastFlags.filter((flag) => !flag.startsWith('--max-nodes-down'));
    await startHub(lab, { replicas: 2, flags });
  });
  afterAll(() => lab?.stop());

  test(`R60: ${SCHEDULES} schedules of ${CALLERS} callers never take down more than the budgets allow`, {
    timeout: longRun ? 3_600_000 : 240_000,
  }, async () => {
    const byInstance = new Map(lab.nodes.map((node) => [node.instanceID, node]));
    const byName = new Map(lab.nodes.map((node) => [node.name, node]));
    const boots = new Map<string, string>();
    /** Node name to the boot that the accepted call ends. */
    const down = new Map<string, string>();
    const worst = { controlPlane: 0, cluster: 0, zone: 0 };
    let accepted = 0;

    const stopWatch = await watchObjects<KubeNode>(lab, '/api/v1/nodes', ({ object }) => {
      const { name } = object.metadata;
      const bootID = object.status.nodeInfo.bootID;
      boots.set(name, bootID);
      if (down.has(name) && down.get(name) !== bootID && isReady(object)) down.delete(name);
    });
    await waitFor(() => boots.size === lab.nodes.length, { what: 'all nodes to be seen' });
    const unsubscribe = lab.ec2.gate.onAccepted((call) => {
      const node = byInstance.get(call.instanceIDs[0] ?? '');
      if (!node) throw new Error(`a call for ${call.instanceIDs.join()}, which is no node`);
      accepted++;
      down.set(node.name, boots.get(node.name) ?? '');
      const nodes = [...down.keys()].flatMap((name) => byName.get(name) ?? []);
      worst.controlPlane = Math.max(worst.controlPlane, nodes.filter((one) => one.controlPlane).length);
      worst.cluster = Math.max(worst.cluster, nodes.length);
      worst.zone = Math.max(worst.zone, nodes.filter((one) => one.zone === node.zone).length);
    });

    lab.defer(stopWatch);

    let admitted = 0;
    const refusals = new Map<string, number>();
    const note = (what: string) => refusals.set(what, (refusals.get(what) ?? 0) + 1);
    for (let schedule = 0; schedule < SCHEDULES; schedule++) {
      // Control-plane nodes, one zone, the same node, everything: whatever callers like best this time.
      const pools = [lab.nodes.slice(0, 3), lab.nodes, lab.nodes.filter(({ zone }) => zone === 'us-east-1a'), lab.nodes.slice(2, 5)];
      const pool = pools[schedule % pools.length] ?? lab.nodes;
      const caller = async () => {
        for (let request = 0; request < REQUESTS; request++) {
          await faultLasts(random(150));
          const node = pool[Math.floor(random(pool.length))] ?? lab.node(0);
          const { status, refusal } = await postAction(lab, node.name);
          if (status === 201) {
            admitted++;
            continue;
          }
          expect([409, 429]).toContain(status);
          expect(refusal).toMatchObject({ kind: 'Status', code: status });
          const causes = refusal.details?.causes ?? [];
          if (status === 409) expect(causes.length, refusal.message).toBeGreaterThan(0);
          for (const cause of causes) {
            expect(cause.reason).toMatch(/^GuardRefused/);
            expect(cause.message).not.toBe('');
            note(cause.field);
          }
        }
      };
      await Promise.all(Array.from({ length: CALLERS }, caller));
    }
    await waitFor(async () => (await ledgerNames(lab)).length === 0, { what: 'all operations to have ended', timeout: 90_000 });
    unsubscribe();
    stopWatch();

    expect(admitted).toBeGreaterThan(SCHEDULES);
    expect(accepted).toBe(admitted);
    expect([...refusals.keys()].sort()).toEqual(['AlreadyRunning', 'ControlPlaneQuorum', 'MaxNodesDown']);
    expect(worst.controlPlane).toBe(1);
    // 10 % of 30 nodes, and 10 % of the 15 or so of a zone.
    expect(worst.cluster).toBeLessThanOrEqual(3);
    expect(worst.zone).toBe(1);
  });
});
