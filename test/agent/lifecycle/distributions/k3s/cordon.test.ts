import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { k3sDistribution } from '../../../../../src/agent/lifecycle/distributions/k3s/k3s.ts';
import type { Step } from '../../../../../src/agent/lifecycle/operations/step.ts';
import type { ClusterSpec } from '../../../../../src/kube/lifecycle.ts';
import { type Cluster, k3sCluster, NEW } from './cluster.ts';

/** The step that fails when everything that it does is done. */
let broken: string | undefined;
const breaking = (steps: Step[]): Step[] =>
  steps.map((step) => ({
    ...step,
    async verify(context) {
      if (step.name === broken) throw new Error('the test breaks it');
      await step.verify(context);
    },
  }));

describe('k3s (stand-in of installer and binary): who cordoned the node decides', () => {
  const distribution = k3sDistribution();
  let cluster: Cluster;
  let spec: ClusterSpec;
  beforeAll(async () => {
    cluster = await k3sCluster({ around: breaking });
    spec = await cluster.spec();
    expect(await cluster.run('Install', spec)).toMatchObject({ phase: 'Succeeded' });
  });
  afterAll(() => cluster.close());

  const signal = () => AbortSignal.timeout(20_000);
  const cordoned = async () => (await distribution.observe(await cluster.sandbox.machine(), spec, signal())).unschedulable;
  async function byHand(verb: 'cordon' | 'uncordon'): Promise<void> {
    const argv = ['k3s', 'kubectl', '--kubeconfig', '/etc/rancher/k3s/k3s.yaml', verb, 'edge-1'];
    await (await cluster.sandbox.machine()).run({ argv, timeoutMs: 20_000 }, () => undefined, signal());
  }

  test('a node that was cordoned by hand stays so when something else is patched, and is nothing that a patch would take back', async () => {
    await byHand('cordon');
    const named = { ...spec, apiServer: { certSANs: ['edge-1.example.com'] } };
    expect(await cluster.run('Patch', named, spec)).toMatchObject({ phase: 'Succeeded' });
    expect(await cordoned()).toBe(true);
    const ended = await cluster.run('Patch', { ...named, disableWorkloads: true }, named);
    expect(ended.steps.at(-1)).toMatchObject({ name: 'scheduling', state: 'Skipped' });
    spec = named;
  });

  test('disableWorkloads cordons and uncordons; taken back, it is as it was', async () => {
    await byHand('uncordon');
    const none = { ...spec, disableWorkloads: true };
    broken = 'scheduling';
    expect(await cluster.run('Patch', none, spec)).toMatchObject({ phase: 'Failed' });
    expect(await cordoned()).toBe(false);
    broken = undefined;
    expect(await cluster.run('Patch', none, spec)).toMatchObject({ phase: 'Succeeded' });
    expect(await cordoned()).toBe(true);
    broken = 'scheduling';
    expect(await cluster.run('Patch', spec, none)).toMatchObject({ phase: 'Failed' });
    expect(await cordoned()).toBe(true);
    broken = undefined;
    expect(await cluster.run('Patch', spec, none)).toMatchObject({ phase: 'Succeeded' });
    expect(await cordoned()).toBe(false);
  });

  test('an upgrade leaves a cordon by hand, and cordons where there shall be no workloads', async () => {
    await byHand('cordon');
    const newer = { ...spec, version: NEW };
    expect(await cluster.run('Upgrade', newer, spec)).toMatchObject({ phase: 'Succeeded' });
    expect(await cordoned()).toBe(true);
    await byHand('uncordon');
    const [old, later] = [spec, newer].map((one) => ({ ...one, disableWorkloads: true })) as [ClusterSpec, ClusterSpec];
    expect(await cluster.run('Upgrade', later, old)).toMatchObject({ phase: 'Succeeded' });
    expect(await cordoned()).toBe(true);
  });
});
