import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { k3sDistribution } from '../../../../../src/agent/lifecycle/distributions/k3s/k3s.ts';
import type { OperationRequest } from '../../../../../src/agent/lifecycle/operations/request.ts';
import type { Step } from '../../../../../src/agent/lifecycle/operations/step.ts';
import type { ClusterSpec } from '../../../../../src/kube/lifecycle.ts';
import { type Cluster, k3sCluster, NEW, OLD } from './cluster.ts';

const distribution = k3sDistribution();
const SPEC: ClusterSpec = { clusterType: 'k3s', version: OLD };
const names = (steps: readonly Step[]) => steps.map(({ name }) => name);

/** What the test does at the end of a step, in place of its verification. */
let meddle: { type: string; step: string; how: (signal: AbortSignal) => Promise<void> } | undefined;
const meddled = (steps: Step[], { type }: OperationRequest): Step[] =>
  steps.map((step) => {
    if (type !== meddle?.type || step.name !== meddle.step) return step;
    const { how } = meddle;
    return { ...step, check: async () => false, verify: ({ signal }) => how(signal) };
  });
const fails = async () => {
  throw new Error('the test breaks it');
};

describe('k3s (stand-in of installer and binary): a cluster that runs', () => {
  let cluster: Cluster;
  let spec: ClusterSpec;
  beforeAll(async () => {
    meddle = undefined;
    cluster = await k3sCluster({ around: meddled });
    spec = await cluster.spec();
    expect(await cluster.run('Install', spec)).toMatchObject({ phase: 'Succeeded' });
  });
  afterAll(() => cluster.close());

  /** The machine but for what k3s writes anew at every start. */
  const state = () =>
    Object.fromEntries(Object.entries(cluster.sandbox.tree()).filter(([path]) => !/\/k3s\.yaml$|^\/proc\/|\/images\//.test(path)));

  async function runsAsBefore(before: Record<string, string>) {
    const machine = await cluster.sandbox.machine();
    expect(await distribution.observe(machine, spec, AbortSignal.timeout(10_000))).toMatchObject({
      version: OLD,
      nodeReady: true,
      unschedulable: false,
    });
    expect(await machine.services.enabled('k3s')).toBe(true);
    expect(state()).toEqual(before);
  }

  test.each(names(distribution.upgrade({ ...SPEC, version: NEW }, SPEC)))(
    'upgrade: %s fails, and the old version runs with its old datastore',
    async (step) => {
      const before = state();
      meddle = { type: 'Upgrade', step, how: fails };
      expect(await cluster.run('Upgrade', { ...spec, version: NEW }, spec)).toMatchObject({
        phase: 'Failed',
        message: expect.stringContaining('everything was undone'),
      });
      await runsAsBefore(before);
    },
  );

  test.each(names(distribution.rotate(SPEC)))('rotation: %s fails, and the old certificates serve', async (step) => {
    const before = state();
    meddle = { type: 'RotateCertificates', step, how: fails };
    expect(await cluster.run('RotateCertificates', spec)).toMatchObject({
      phase: 'Failed',
      message: expect.stringContaining('everything was undone'),
    });
    await runsAsBefore(before);
  });

  test('patch: the new settings do not come up, and the old ones serve', async () => {
    const before = state();
    meddle = { type: 'Patch', step: 'node-ready', how: fails };
    const named = { ...spec, apiServer: { certSANs: ['other.example.com'] } };
    expect(await cluster.run('Patch', named, spec)).toMatchObject({
      phase: 'Failed',
      message: expect.stringContaining('everything was undone'),
    });
    await runsAsBefore(before);
  });

  test('rotation: k3s that renews nothing is noticed', async () => {
    meddle = undefined;
    const before = state();
    cluster.sandbox.setFaults('rotate-nothing');
    const ended = await cluster.run('RotateCertificates', spec);
    cluster.sandbox.setFaults();
    expect(ended).toMatchObject({
      phase: 'Failed',
      message: expect.stringContaining('did not renew client-admin, serving-kube-apiserver'),
    });
    await runsAsBefore(before);
  });

  test.each(names(distribution.upgrade({ ...SPEC, version: NEW }, SPEC)))(
    'upgrade: the power is cut in %s, and the upgrade goes on by itself',
    async (step) => {
      const other = await k3sCluster({ around: meddled });
      try {
        meddle = undefined;
        const old = await other.spec();
        await other.run('Install', old);
        const reached = new Promise<void>((resolve) => {
          const how = (signal: AbortSignal) =>
            new Promise<void>((_, reject) => {
              signal.addEventListener('abort', () => reject(new Error('cut')), { once: true });
              resolve();
            });
          meddle = { type: 'Upgrade', step, how };
        });
        void other.run('Upgrade', { ...old, version: NEW }, old);
        await reached;
        meddle = undefined;
        expect(await other.powerCut()).toMatchObject({ phase: 'Succeeded', resumed: 1 });
        const machine = await other.sandbox.machine();
        expect(await distribution.observe(machine, old, AbortSignal.timeout(10_000))).toMatchObject({
          version: NEW,
          kubeletVersion: NEW,
          nodeReady: true,
        });
        expect(await machine.services.enabled('k3s')).toBe(true);
      } finally {
        await other.close();
      }
    },
  );
});
