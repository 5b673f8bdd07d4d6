import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { configFile, environmentFile, registriesFile } from '../../../../../src/agent/lifecycle/distributions/k3s/configuration.ts';
import { k3sDefaults, k3sProblems } from '../../../../../src/agent/lifecycle/distributions/k3s/spec.ts';
import type { Facts } from '../../../../../src/agent/lifecycle/machine/machine.ts';
import type { ClusterSpec } from '../../../../../src/kube/lifecycle.ts';

const FACTS: Facts = {
  hostname: 'Edge-1',
  architecture: 'amd64',
  os: { id: 'debian', version: '12' },
  cpus: 2,
  memoryBytes: 4e9,
  swap: false,
  cgroup: 2,
  mayRaiseLimits: true,
  addresses: ['192.0.2.5'],
  initSystem: 'systemd',
  packageManager: 'apt',
  bootID: 'b',
};
const complete = (spec: Partial<ClusterSpec>) => k3sDefaults({ clusterType: 'k3s', version: '1.36.3+k3s1', ...spec }, FACTS);

describe('spec of k3s', () => {
  test('defaults are those of k3s', () => {
    expect(complete({})).toEqual({
      clusterType: 'k3s',
      clusterName: 'edge-1',
      version: 'v1.36.3+k3s1',
      networking: { podSubnet: '10.42.0.0/16', svcSubnet: '10.43.0.0/16', cniName: 'flannel' },
      storage: { clusterCsi: { name: 'local-path' } },
      disableWorkloads: false,
    });
    expect(k3sProblems(complete({}))).toEqual([]);
  });

  test.each<[string, Partial<ClusterSpec>]>([
    ['spec.version', { version: '' }],
    ['spec.version', { version: 'v1.36.3' }],
    ['spec.version', { version: 'v1.36.3+rke2r1' }],
    ['spec.version', { version: 'latest' }],
    ['spec.networking.cniName', { networking: { cniName: 'bridge' } }],
    ['spec.networking.cniName', { networking: { cniName: 'cilium' } }],
    ['spec.networking.cniVersion', { networking: { cniVersion: 'v0.28.0' } }],
    ['spec.networking.cilium', { networking: { cniManifestURL: 'https://example.com/cilium.yaml', cilium: { cliVersion: 'v1' } } }],
    ['spec.storage.clusterCsi.version', { storage: { clusterCsi: { name: 'local-path', version: 'v1' } } }],
    ['spec.extraArgs[apiServer.audit-log-maxage]', { extraArgs: { 'apiServer.audit-log-maxage': '1' } }],
    ['spec.extraArgs[server.disable-agent]', { extraArgs: { 'server.disable-agent': 'true' } }],
    ['spec.extraArgs[server.token]', { extraArgs: { 'server.token': 's' } }],
    ['spec.extraArgs[server.cluster-cidr]', { extraArgs: { 'server.cluster-cidr': '10.0.0.0/8' } }],
    ['spec.extraArgs[server.datastore-endpoint]', { extraArgs: { 'server.datastore-endpoint': 'mysql://' } }],
    ['spec.certificates.validityPeriod', { certificates: { validityPeriod: '36h' } }],
    ['spec.upgrade.componentTimeout', { upgrade: { componentTimeout: '5m' } }],
    ['spec.certificates.caValidityPeriod', { certificates: { caValidityPeriod: '8760h' } }],
  ])('%s is refused: %j', (field, spec) => {
    expect(k3sProblems(complete(spec)).map((cause) => cause.field)).toEqual([field]);
  });

  test('a value in a refused setting is never repeated when it may be a secret', () => {
    expect(JSON.stringify(k3sProblems(complete({ extraArgs: { 'server.token': 'hunter2' } })))).not.toContain('hunter2');
  });
});

describe('files of k3s', () => {
  test('dual stack, names, further settings', () => {
    const spec = complete({
      networking: { podSubnet: '10.42.0.0/16,fd00:42::/56', svcSubnet: '10.43.0.0/16,fd00:43::/112' },
      apiServer: { certSANs: ['a.example.com', '192.0.2.9'] },
      storage: { clusterCsi: { name: 'none' } },
      extraArgs: { 'server.https-listen-port': '6443', 'server.disable': 'traefik,servicelb', 'kubelet.max-pods': '50', 'kubelet.v': '2' },
    });
    expect(parse(configFile(spec, 'Edge-1'))).toEqual({
      'node-name': 'edge-1',
      'write-kubeconfig-mode': '0600',
      'cluster-cidr': '10.42.0.0/16,fd00:42::/56',
      'service-cidr': '10.43.0.0/16,fd00:43::/112',
      'tls-san': ['a.example.com', '192.0.2.9'],
      disable: ['local-storage', 'traefik', 'servicelb'],
      'kubelet-arg': ['max-pods=50', 'v=2'],
      'https-listen-port': '6443',
    });
  });

  test('the mode of the kubeconfig stays text: as a number YAML would read another one', () => {
    expect(configFile(complete({}), 'edge-1')).toMatch(/^write-kubeconfig-mode: "0600"$/m);
  });

  test('days of certificates stand where the unit of k3s reads its environment', () => {
    expect(environmentFile(complete({ certificates: { validityPeriod: '8760h' } }))).toBe('CATTLE_NEW_SIGNED_CERT_EXPIRATION_DAYS=365\n');
    expect(environmentFile(complete({}))).toBeUndefined();
  });

  test('a registry: its endpoints in order, its CA, credentials for each host', () => {
    const spec = complete({
      clusterRuntime: {
        customiseClusterRuntime: true,
        clusterCri: {
          privateRegistryFQDN: 'registry.example.com',
          privateRegistryEndpoints: ['https://a.example.com:5000', 'https://b.example.com:5000/v2'],
          registryAuth: { isAuthRequired: true, username: 'u', password: 'file:/x' },
          certFiles: ['/etc/ssl/own.crt'],
        },
      },
    });
    const config = { auth: { username: 'u', password: 'p: "w" # x' }, tls: { ca_file: '/etc/rancher/k3s/registry-ca.crt' } };
    const endpoint = ['https://a.example.com:5000', 'https://b.example.com:5000/v2'];
    expect(parse(registriesFile(spec, 'p: "w" # x') ?? '')).toEqual({
      mirrors: { 'registry.example.com': { endpoint }, 'docker.io': { endpoint } },
      configs: { 'registry.example.com': config, 'a.example.com:5000': config, 'b.example.com:5000': config },
    });
    expect(registriesFile(complete({}), undefined)).toBeUndefined();
  });
});
