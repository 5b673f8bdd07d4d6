import { describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { bridgeConfig } from '../../../../../src/agent/lifecycle/distributions/kubeadm/cni.ts';
import { ignoredPreflight, kubeadmConfig } from '../../../../../src/agent/lifecycle/distributions/kubeadm/config.ts';
import { kubeadm } from '../../../../../src/agent/lifecycle/distributions/kubeadm/kubeadm.ts';
import type { Facts } from '../../../../../src/agent/lifecycle/machine/machine.ts';
import type { ClusterSpec } from '../../../../../src/kube/lifecycle.ts';
import { FACTS, SPEC } from './facts.ts';

type Documents = { init: Tree; cluster: Tree; kubelet: Tree; proxy: Tree };
type Tree = { [name: string]: Tree & string };

function documents(
  more: Partial<ClusterSpec> = {},
  facts: Partial<Facts> = {},
  given: { conntrackWritable?: boolean; repository?: string } = {},
): Documents {
  const machine = { ...FACTS, ...facts };
  const spec = kubeadm.defaults({ ...SPEC, ...more }, machine);
  const text = kubeadmConfig(spec, { facts: machine, repository: 'registry.k8s.io', conntrackWritable: true, ...given });
  const [init, cluster, kubelet, proxy] = parseAllDocuments(text).map((document) => document.toJS() as Tree);
  if (!init || !cluster || !kubelet || !proxy) throw new Error('not four documents');
  return { init, cluster, kubelet, proxy };
}

const flags = (list: unknown) => Object.fromEntries((list as { name: string; value: string }[]).map(({ name, value }) => [name, value]));

describe("kubeadm's configuration", () => {
  test('of a usual machine', () => {
    const { init, cluster, kubelet, proxy } = documents();
    expect(init).toMatchObject({
      apiVersion: 'kubeadm.k8s.io/v1beta4',
      kind: 'InitConfiguration',
      localAPIEndpoint: { advertiseAddress: '192.0.2.10', bindPort: 6443 },
      nodeRegistration: { name: 'edge-1', criSocket: 'unix:///run/containerd/containerd.sock', taints: [] },
    });
    expect(cluster).toMatchObject({
      apiVersion: 'kubeadm.k8s.io/v1beta4',
      kind: 'ClusterConfiguration',
      kubernetesVersion: 'v1.36.3',
      clusterName: 'edge-1',
      controlPlaneEndpoint: '192.0.2.10:6443',
      imageRepository: 'registry.k8s.io',
      networking: { podSubnet: '100.100.0.0/16', serviceSubnet: '100.101.0.0/16' },
      apiServer: { certSANs: ['localhost', '127.0.0.1', '192.0.2.10'] },
    });
    expect(cluster).not.toHaveProperty('certificateValidityPeriod');
    expect(cluster).not.toHaveProperty('etcd.external');
    for (const component of ['controllerManager', 'scheduler'] as const) {
      expect(flags(cluster[component]?.['extraArgs'])).toMatchObject({ 'leader-elect': 'false', profiling: 'false' });
    }
    const etcd = flags(cluster['etcd']?.['local']?.['extraArgs']);
    expect(etcd).toMatchObject({ 'heartbeat-interval': '500', 'election-timeout': '2500' });
    expect(Object.keys(etcd).some((name) => name.includes('urls'))).toBe(false);
    expect(kubelet).toMatchObject({
      kind: 'KubeletConfiguration',
      cgroupDriver: 'systemd',
      imageGCHighThresholdPercent: 100,
      imageGCLowThresholdPercent: 99,
    });
    for (const name of ['failCgroupV1', 'oomScoreAdj', 'failSwapOn']) expect(kubelet).not.toHaveProperty(name);
    expect(proxy).toEqual({ apiVersion: 'kubeproxy.config.k8s.io/v1alpha1', kind: 'KubeProxyConfiguration' });
  });

  test('cgroup v1, no CAP_SYS_RESOURCE, swap, no right to set conntrack', () => {
    const { kubelet, proxy } = documents({}, { cgroup: 1, mayRaiseLimits: false, swap: true }, { conntrackWritable: false });
    expect(kubelet).toMatchObject({
      cgroupDriver: 'cgroupfs',
      failCgroupV1: false,
      oomScoreAdj: 0,
      failSwapOn: false,
      memorySwap: { swapBehavior: 'NoSwap' },
    });
    expect(proxy).toMatchObject({ conntrack: { maxPerCore: 0, min: 0 }, oomScoreAdj: 0 });
  });

  test('without systemd control groups are made directly', () => {
    expect(documents({}, { initSystem: 'none' }).kubelet).toMatchObject({ cgroupDriver: 'cgroupfs' });
  });

  test('dual stack', () => {
    const { init, cluster } = documents({ networking: { podSubnet: '10.1.0.0/16,fd01::/56', svcSubnet: '10.2.0.0/16,fd02::/112' } });
    expect(flags(init['nodeRegistration']?.['kubeletExtraArgs'])).toEqual({ 'node-ip': '192.0.2.10,2001:db8::10' });
    expect(flags(cluster['controllerManager']?.['extraArgs'])).toMatchObject({
      'node-cidr-mask-size-ipv4': '24',
      'node-cidr-mask-size-ipv6': '64',
    });
    expect(cluster['apiServer']?.['certSANs']).toEqual(['localhost', '127.0.0.1', '192.0.2.10', '2001:db8::10']);
  });

  test('IPv6 first: the endpoint is in brackets', () => {
    const { init, cluster } = documents({ networking: { podSubnet: 'fd01::/56', svcSubnet: 'fd02::/112' } });
    expect(init['localAPIEndpoint']?.['advertiseAddress']).toBe('2001:db8::10');
    expect(cluster['controlPlaneEndpoint']).toBe('[2001:db8::10]:6443');
  });

  test('names, validity, further arguments, private registry', () => {
    const { cluster, init } = documents(
      {
        apiServer: { certSANs: ['edge.example.com', '192.0.2.10'] },
        certificates: { validityPeriod: '48h', caValidityPeriod: '480h' },
        extraArgs: { 'apiServer.audit-log-maxage': '7', 'scheduler.v': '2', 'kubelet.max-pods': '50', 'etcd.heartbeat-interval': '300' },
      },
      {},
      { repository: 'registry.example.com' },
    );
    expect(cluster).toMatchObject({
      certificateValidityPeriod: '48h',
      caCertificateValidityPeriod: '480h',
      imageRepository: 'registry.example.com',
    });
    expect(cluster['apiServer']?.['certSANs']).toEqual(['localhost', '127.0.0.1', '192.0.2.10', 'edge.example.com']);
    expect(flags(cluster['apiServer']?.['extraArgs'])).toMatchObject({ 'audit-log-maxage': '7', profiling: 'false' });
    expect(flags(cluster['scheduler']?.['extraArgs'])).toMatchObject({ v: '2' });
    expect(flags(init['nodeRegistration']?.['kubeletExtraArgs'])).toMatchObject({ 'max-pods': '50' });
    expect(flags(cluster['etcd']?.['local']?.['extraArgs'])).toMatchObject({ 'heartbeat-interval': '300' });
  });

  test.each([
    [{}, []],
    [{ cgroup: 1 as const }, ['SystemVerification']],
    [{ cpus: 1 }, ['NumCPU']],
    [{ swap: true }, ['Swap']],
    [{ cgroup: 1 as const, cpus: 1, swap: true }, ['SystemVerification', 'NumCPU', 'Swap']],
  ])('preflight errors that do not matter for %j: %j', (facts, ignored) => {
    expect(ignoredPreflight({ ...FACTS, ...facts })).toEqual(ignored);
  });
});

describe('the built-in network', () => {
  const ranges = (podSubnet: string) => {
    const config = JSON.parse(bridgeConfig({ ...SPEC, networking: { podSubnet } })) as {
      plugins: { type: string; ipam?: { ranges: unknown } }[];
    };
    expect(config.plugins.map(({ type }) => type)).toEqual(['bridge', 'portmap']);
    return config.plugins[0]?.ipam?.ranges;
  };
  test('gives pods of the first share, one range for each family', () => {
    expect(ranges('100.100.0.0/16')).toEqual([[{ subnet: '100.100.0.0/24' }]]);
    expect(ranges('10.1.2.0/25')).toEqual([[{ subnet: '10.1.2.0/25' }]]);
    expect(ranges('10.1.0.0/16,fd01::/56')).toEqual([[{ subnet: '10.1.0.0/24' }], [{ subnet: 'fd01::/64' }]]);
  });
});
