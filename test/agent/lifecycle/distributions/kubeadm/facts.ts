import type { Facts } from '../../../../../src/agent/lifecycle/machine/machine.ts';
import type { ClusterSpec } from '../../../../../src/kube/lifecycle.ts';

/** A usual machine. */
export const FACTS: Facts = {
  hostname: 'Edge-1',
  architecture: 'amd64',
  os: { id: 'debian', version: '12' },
  cpus: 4,
  memoryBytes: 8e9,
  swap: false,
  cgroup: 2,
  mayRaiseLimits: true,
  addresses: ['192.0.2.10', '2001:db8::10'],
  initSystem: 'systemd',
  packageManager: 'apt',
  bootID: 'b',
};

export const SPEC: ClusterSpec = { clusterType: 'kubeadm', version: 'v1.36.3' };
