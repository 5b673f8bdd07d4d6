import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { k3sDistribution } from '../../../../../src/agent/lifecycle/distributions/k3s/k3s.ts';
import type { OperationRequest } from '../../../../../src/agent/lifecycle/operations/request.ts';
import type { Step } from '../../../../../src/agent/lifecycle/operations/step.ts';
import type { ClusterSpec } from '../../../../../src/kube/lifecycle.ts';
import { type Cluster, k3sCluster, OLD } from './cluster.ts';

const distribution = k3sDistribution();
const SPEC: ClusterSpec = { clusterType: 'k3s', version: OLD };
const names = (steps: readonly Step[]) => steps.map(({ name }) => name);

/** Which step of which operation fails when everything that it does is done. */
let broken: { type: string; step: string } | undefined;
const breaking = (steps: Step[], { type }: OperationRequest): Step[] =>
  steps.map((step) =>
    type === broken?.type && step.name === broken.step
      ? {
          ...step,
          check: async () => false,
          verify: async () => {
            throw new Error('the test breaks it');
          },
        }
      : step,
  );

describe('k3s (stand-in of installer and binary): whatever fails is undone', () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await k3sCluster({ around: breaking });
  });
  afterAll(() => cluster.close());

  test.each(names(distribution.install(SPEC)))('install: %s fails, and the machine is as before', async (step) => {
    const pristine = cluster.sandbox.tree();
    broken = { type: 'Install', step };
    const ended = await cluster.run('Install', await cluster.spec());
    expect(ended).toMatchObject({ phase: 'Failed', message: expect.stringMatching(`^step ${step} failed: .*everything was undone$`) });
    expect(cluster.sandbox.serverPid()).toBeUndefined();
    expect(cluster.sandbox.tree()).toEqual(pristine);
  });

  test.each(['install-half', `server ${OLD}`, 'kubectl'])(
    'install: the fault "%s" of installer or binary is told in its own words',
    async (fault) => {
      broken = undefined;
      const pristine = cluster.sandbox.tree();
      cluster.sandbox.setFaults(fault);
      const short = (await cluster.spec({ disableWorkloads: true })) satisfies ClusterSpec;
      const ended = await cluster.run('Install', short);
      cluster.sandbox.setFaults();
      expect(ended).toMatchObject({ phase: 'Failed', message: expect.stringMatching(/no space left on device|told to fail/) });
      expect(ended.message).toMatch(/everything was undone$/);
      expect(cluster.sandbox.tree()).toEqual(pristine);
    },
  );
});
