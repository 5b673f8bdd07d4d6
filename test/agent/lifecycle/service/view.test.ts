import { expect, test } from 'vitest';
import { agentCluster } from '../../../../src/agent/lifecycle/service/view.ts';
import type { State } from '../../../../src/agent/lifecycle/state/state.ts';
import type { ClusterSpec } from '../../../../src/kube/lifecycle.ts';

const cniVersionOf = (networking: ClusterSpec['networking'], installed = true) => {
  const spec: ClusterSpec = { clusterType: 'kubeadm', version: 'v1.36.3', ...(networking && { networking }) };
  const state: State = { phase: 'Provisioned', spec, metadata: {}, wish: undefined, installed, conditions: [] };
  return agentCluster(state, undefined, { observation: undefined, drift: [], bootID: 'b', busy: false }).status.cniVersion;
};

test('a version that no manifest brought was shown as one that runs', () => {
  expect(cniVersionOf({ cniVersion: 'v99' })).toBeUndefined();
  const manifest = { cniManifestURL: 'https://example.com/flannel.yaml', cniVersion: 'v0.28.0' };
  expect(cniVersionOf(manifest)).toBe('v0.28.0');
  expect(cniVersionOf(manifest, false)).toBeUndefined();
  expect(cniVersionOf(undefined)).toBeUndefined();
});
