import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { k3sDistribution } from '../../../../../src/agent/lifecycle/distributions/k3s/k3s.ts';
import { cleanUp } from '../../../../support/clean-up.ts';
import { k3sCluster, NEW, OLD } from './cluster.ts';

const { after, signal } = cleanUp();
const distribution = k3sDistribution();

async function started(options: Parameters<typeof k3sCluster>[0] = {}) {
  const cluster = await k3sCluster(options);
  after(cluster.close);
  return cluster;
}

test('k3s (stand-in of installer and binary): created from artifacts, patched, upgraded, certificates rotated, deleted without a trace', async () => {
  const { sandbox, run, spec } = await started();
  const machine = await sandbox.machine();
  const pristine = sandbox.tree();
  const look = () => distribution.observe(machine, first, signal());
  const first = await spec({
    apiServer: { certSANs: ['edge-1.example.com'] },
    extraArgs: { 'kubelet.max-pods': '30', 'server.disable-helm-controller': 'true' },
  });

  expect(await look()).toMatchObject({ installed: false });
  expect(await run('Install', first)).toMatchObject({ phase: 'Succeeded' });
  expect(await look()).toMatchObject({
    installed: true,
    version: OLD,
    kubeletVersion: OLD,
    nodeReady: true,
    controlPlaneReady: true,
    cniReady: true,
    unschedulable: false,
  });
  const config = join(sandbox.root, 'etc/rancher/k3s/config.yaml');
  expect(statSync(config).mode & 0o777).toBe(0o600);
  expect(parse(readFileSync(config, 'utf8'))).toEqual({
    'node-name': 'edge-1',
    'write-kubeconfig-mode': '0600',
    'cluster-cidr': '10.42.0.0/16',
    'service-cidr': '10.43.0.0/16',
    'tls-san': ['edge-1.example.com'],
    'kubelet-arg': ['max-pods=30'],
    'disable-helm-controller': 'true',
  });
  expect(readFileSync(join(sandbox.root, 'var/lib/rancher/k3s/agent/images', `${OLD}-k3s-airgap-images.tar`), 'utf8')).toBe(
    `images of ${OLD}`,
  );
  const certificates = await distribution.certificates(machine);
  expect(certificates.map(({ name }) => name).sort()).toEqual(['agent/client-kubelet', 'client-admin', 'serving-kube-apiserver']);
  for (const { remainingDaysToExpire } of certificates) expect(['364', '365']).toContain(remainingDaysToExpire);

  const pid = sandbox.serverPid();
  const cordoned = { ...first, disableWorkloads: true };
  expect(await run('Patch', cordoned, first)).toMatchObject({ phase: 'Succeeded' });
  expect(await look()).toMatchObject({ unschedulable: true, nodeReady: true });
  // What k3s does not read from its configuration needs no restart.
  expect(sandbox.serverPid()).toBe(pid);

  const named = {
    ...cordoned,
    apiServer: { certSANs: ['edge-1.example.com', 'second.example.com'] },
    certificates: { validityPeriod: '48h' },
  };
  expect(await run('Patch', named, cordoned)).toMatchObject({ phase: 'Succeeded' });
  expect(sandbox.serverPid()).not.toBe(pid);
  expect(parse(readFileSync(config, 'utf8'))).toMatchObject({ 'tls-san': ['edge-1.example.com', 'second.example.com'] });

  const newer = { ...named, version: NEW };
  expect(await run('Upgrade', newer, named)).toMatchObject({ phase: 'Succeeded' });
  expect(await look()).toMatchObject({ version: NEW, kubeletVersion: NEW, nodeReady: true, unschedulable: true });

  expect(await run('RotateCertificates', newer)).toMatchObject({ phase: 'Succeeded' });
  for (const { remainingDaysToExpire } of await distribution.certificates(machine)) expect(['1', '2']).toContain(remainingDaysToExpire);
  expect(await look()).toMatchObject({ nodeReady: true });

  expect(await run('Delete', newer)).toMatchObject({ phase: 'Succeeded' });
  expect(sandbox.serverPid()).toBeUndefined();
  expect(sandbox.tree()).toEqual(pristine);
  expect(await run('Install', first)).toMatchObject({ phase: 'Succeeded' });
});

const OFFICIAL = { installerURL: 'https://get.k3s.io', releasesURL: 'https://github.com/k3s-io/k3s/releases' };
const MIRROR = { installerURL: 'https://mirror.example.com/k3s.sh', releasesURL: 'https://mirror.example.com/k3s' };

test.each([
  { from: 'the URLs of the settings', options: MIRROR, urls: MIRROR },
  { from: 'the project', options: {}, urls: OFFICIAL },
])('k3s (stand-in): without artifacts installer and binary come from $from, and from nowhere else', async ({ options, urls }) => {
  const { sandbox, run, spec } = await started({ source: '', ...options });
  const pristine = sandbox.tree();
  sandbox.offer('installer', urls.installerURL);
  sandbox.offer('releases', urls.releasesURL);
  const [old, newer] = [await spec(), await spec({ version: NEW })];
  expect(await run('Install', old)).toMatchObject({ phase: 'Succeeded' });
  expect(await run('Upgrade', newer, old)).toMatchObject({ phase: 'Succeeded' });
  expect(await distribution.observe(await sandbox.machine(), newer, signal())).toMatchObject({ version: NEW, nodeReady: true });
  expect(sandbox.asked()).toEqual([OLD, NEW].flatMap((version) => [urls.installerURL, `${urls.releasesURL}/download/${version}/k3s`]));
  expect(await run('Delete', newer)).toMatchObject({ phase: 'Succeeded' });
  expect(sandbox.tree()).toEqual(pristine);
});

test('k3s (stand-in): an installer that is not to be had fails the install, and nothing is left of it', async () => {
  const { sandbox, run, spec } = await started({ source: '', ...MIRROR });
  const pristine = sandbox.tree();
  expect(await run('Install', await spec())).toMatchObject({
    phase: 'Failed',
    message: expect.stringContaining(`neither curl nor wget to get ${MIRROR.installerURL}`),
    nextCommand: expect.stringContaining('curl'),
  });
  sandbox.offer('releases', MIRROR.releasesURL);
  expect(await run('Install', await spec())).toMatchObject({ phase: 'Failed', message: expect.stringContaining('returned error: 404') });
  expect(sandbox.tree()).toEqual(pristine);
});

test('k3s (stand-in): the registry and its password reach registries.yaml, readable by root only, and no log', async () => {
  const { sandbox, run, spec, manager } = await started();
  const wished = await spec({
    clusterRuntime: {
      customiseClusterRuntime: true,
      clusterCri: {
        privateRegistryFQDN: 'registry.example.com:5000',
        registryAuth: { isAuthRequired: true, username: 'puller', password: 'correct horse' },
        skipTls: true,
      },
    },
  });
  const plan = await manager().plan({
    type: 'Install',
    spec: wished,
    before: undefined,
    requester: { user: 'a', auditID: 'a' },
    version: OLD,
  });
  expect(JSON.stringify(plan)).not.toContain('correct horse');
  expect(await run('Install', wished)).toMatchObject({ phase: 'Succeeded' });
  const file = join(sandbox.root, 'etc/rancher/k3s/registries.yaml');
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(parse(readFileSync(file, 'utf8'))).toEqual({
    mirrors: {
      'registry.example.com:5000': { endpoint: ['https://registry.example.com:5000'] },
      'docker.io': { endpoint: ['https://registry.example.com:5000'] },
    },
    configs: {
      'registry.example.com:5000': { auth: { username: 'puller', password: 'correct horse' }, tls: { insecure_skip_verify: true } },
    },
  });
  for await (const line of manager().log({ follow: false, signal: signal() })) expect(line).not.toContain('correct horse');
  expect(existsSync(join(sandbox.root, 'etc/rancher/k3s/registry-ca.crt'))).toBe(false);
});

test('k3s (stand-in): a network of a manifest takes the place of flannel, and the node is waited for after it', async () => {
  const { sandbox, run, spec } = await started();
  const machine = await sandbox.machine();
  await machine.write('/srv/cni.yaml', 'kind: DaemonSet\n', 0o644);
  const wished = await spec({ networking: { cniManifestURL: 'file:///srv/cni.yaml', cniName: 'cilium' } });
  expect(await run('Install', wished)).toMatchObject({ phase: 'Succeeded' });
  expect(parse(readFileSync(join(sandbox.root, 'etc/rancher/k3s/config.yaml'), 'utf8'))).toMatchObject({
    'flannel-backend': 'none',
    'disable-network-policy': true,
  });
  expect(await distribution.observe(machine, wished, signal())).toMatchObject({ nodeReady: true, cniReady: true });
});
