import { describe, expect, test } from 'vitest';
import { kubeadm } from '../../../../../src/agent/lifecycle/distributions/kubeadm/kubeadm.ts';
import type { Facts } from '../../../../../src/agent/lifecycle/machine/machine.ts';
import type { ClusterSpec } from '../../../../../src/kube/lifecycle.ts';
import { FACTS, SPEC } from './facts.ts';

const complete = (more: Partial<ClusterSpec>, facts: Partial<Facts> = {}) => kubeadm.defaults({ ...SPEC, ...more }, { ...FACTS, ...facts });
const problems = (more: Partial<ClusterSpec>, facts: Partial<Facts> = {}) =>
  kubeadm.validate(complete(more, facts), { ...FACTS, ...facts });

describe('defaults', () => {
  test('what was left open', () => {
    expect(complete({ version: '1.36.3' })).toEqual({
      clusterType: 'kubeadm',
      clusterName: 'edge-1',
      version: 'v1.36.3',
      networking: { podSubnet: '100.100.0.0/16', svcSubnet: '100.101.0.0/16', cniName: 'bridge' },
      disableWorkloads: false,
    });
  });

  test('what was said stays', () => {
    const spec: ClusterSpec = {
      ...SPEC,
      clusterName: 'other',
      networking: { podSubnet: '10.1.0.0/16', svcSubnet: '10.2.0.0/16', cniManifestURL: 'file:///cni.yaml' },
      storage: { clusterCsi: { name: 'local-path', version: 'v0.0.31' } },
      disableWorkloads: true,
    };
    expect(kubeadm.defaults(spec, FACTS)).toEqual(spec);
  });

  test('defaults of defaults are the same', () => {
    const once = complete({ storage: { clusterCsi: { name: 'local-path' } } });
    expect(kubeadm.defaults(once, FACTS)).toEqual(once);
    expect(once.storage?.clusterCsi?.version).toMatch(/^v\d/);
  });

  test('a machine that has IPv6 only gets networks of IPv6', () => {
    const spec = complete({}, { addresses: ['2001:db8::10'] });
    expect(spec.networking?.podSubnet).toMatch(/^fd/);
    expect(kubeadm.validate(spec, { ...FACTS, addresses: ['2001:db8::10'] })).toEqual([]);
  });
});

describe('validation', () => {
  test('a usual spec is well', () => {
    expect(problems({})).toEqual([]);
    expect(problems({ networking: { cniName: 'flannel', cniManifestURL: 'file:///x', cniVersion: 'v0.28.0' } })).toEqual([]);
    expect(problems({ networking: { podSubnet: '10.1.0.0/16,fd01::/56', svcSubnet: '10.2.0.0/16,fd02::/112' } })).toEqual([]);
    expect(problems({ extraArgs: { 'apiServer.audit-log-maxage': '7', 'kubelet.v': '2', 'apiServer.anonymous-auth': 'true' } })).toEqual(
      [],
    );
  });

  test.each<[string, Partial<ClusterSpec>, string, string]>([
    ['no version', { version: '' }, 'spec.version', 'Required value'],
    ['not a version', { version: 'latest' }, 'spec.version', 'not a version'],
    ['a version of k3s', { version: 'v1.36.3+k3s1' }, 'spec.version', 'not a version'],
    ['too old for v1beta4', { version: 'v1.30.1' }, 'spec.version', 'not supported'],
    ['of a time to come', { version: 'v1.99.0' }, 'spec.version', 'not supported'],
    ['pods: too small', { networking: { podSubnet: '10.1.0.0/26' } }, 'spec.networking.podSubnet', 'between'],
    ['pods: too large', { networking: { podSubnet: '8.0.0.0/6' } }, 'spec.networking.podSubnet', 'between'],
    ['pods: loopback', { networking: { podSubnet: '127.0.0.0/16' } }, 'spec.networking.podSubnet', 'loopback'],
    ['Services: too small', { networking: { svcSubnet: '10.2.0.0/30' } }, 'spec.networking.svcSubnet', 'between'],
    ['Services: too large', { networking: { svcSubnet: '10.0.0.0/8' } }, 'spec.networking.svcSubnet', 'between'],
    ['Services: link-local', { networking: { svcSubnet: '169.254.0.0/16' } }, 'spec.networking.svcSubnet', 'link-local'],
    [
      'Services of IPv6: too large',
      { networking: { podSubnet: 'fd01::/56', svcSubnet: 'fd02::/64' } },
      'spec.networking.svcSubnet',
      'between',
    ],
    ['an unknown network', { networking: { cniName: 'weave' } }, 'spec.networking.cniName', 'not known'],
    ['a network without its manifest', { networking: { cniName: 'flannel' } }, 'spec.networking.cniManifestURL', 'Required value'],
    [
      'a manifest beside the bridge',
      { networking: { cniName: 'bridge', cniManifestURL: 'file:///x' } },
      'spec.networking.cniManifestURL',
      'no manifest',
    ],
    [
      'a version of the bridge, which was taken and had no effect',
      { networking: { cniVersion: 'v99' } },
      'spec.networking.cniVersion',
      'Forbidden: the version of the built-in bridge',
    ],
    ['an unknown component', { extraArgs: { 'proxy.v': '1' } }, 'spec.extraArgs[proxy.v]', 'component'],
    ['no component', { extraArgs: { v: '1' } }, 'spec.extraArgs[v]', 'component'],
    [
      'a flag of ours',
      { extraArgs: { 'apiServer.etcd-servers': 'http://x' } },
      'spec.extraArgs[apiServer.etcd-servers]',
      'set by the agent',
    ],
    [
      'a flag of ours in etcd',
      { extraArgs: { 'etcd.listen-client-urls': 'http://0.0.0.0:2379' } },
      'spec.extraArgs[etcd.listen-client-urls]',
      'set by the agent',
    ],
    [
      'a kubelet without authentication',
      { extraArgs: { 'kubelet.anonymous-auth': 'true' } },
      'spec.extraArgs[kubelet.anonymous-auth]',
      'lets everybody',
    ],
    [
      'a kubelet without authorisation',
      { extraArgs: { 'kubelet.authorization-mode': 'AlwaysAllow' } },
      'spec.extraArgs[kubelet.authorization-mode]',
      'lets everybody',
    ],
    [
      "the kubelet's open port",
      { extraArgs: { 'kubelet.read-only-port': '10255' } },
      'spec.extraArgs[kubelet.read-only-port]',
      'lets everybody',
    ],
  ])('%s', (_, spec, field, message) => {
    expect(problems(spec)).toEqual([expect.objectContaining({ field, message: expect.stringContaining(message) })]);
  });

  test('Services of a family that the machine has no address of', () => {
    const networking = { podSubnet: 'fd01::/56', svcSubnet: 'fd02::/112' };
    expect(problems({ networking }, { addresses: ['192.0.2.10'] })).toEqual([
      { reason: 'FieldValueInvalid', field: 'spec.networking.svcSubnet', message: 'the machine has no IPv6 address' },
    ]);
  });
});
