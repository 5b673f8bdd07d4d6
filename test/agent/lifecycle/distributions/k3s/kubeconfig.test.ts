import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Registry } from 'prom-client';
import { expect, test } from 'vitest';
import { artifactSource } from '../../../../../src/agent/lifecycle/artifacts/artifact-source.ts';
import { k3sDistribution } from '../../../../../src/agent/lifecycle/distributions/k3s/k3s.ts';
import { k3sKubeconfig } from '../../../../../src/agent/lifecycle/distributions/k3s/kubeconfig.ts';
import { startLifecycle } from '../../../../../src/agent/lifecycle/lifecycle.ts';
import { lifecycleMetrics } from '../../../../../src/agent/lifecycle/metrics.ts';
import { k3sSandbox } from '../../../../endpoints/k3s-stand-in/sandbox.ts';
import { cleanUp } from '../../../../support/clean-up.ts';
import { asking, settled } from '../../support/sandbox.ts';
import { FACTS } from '../kubeadm/facts.ts';
import { OLD } from './cluster.ts';

const { after } = cleanUp();

test('k3s (stand-in): the kubeconfig that leaves the machine leads to the node, not to the loopback address of whoever has it', async () => {
  const sandbox = k3sSandbox([OLD]);
  after(sandbox.close);
  const machine = await sandbox.machine();
  after(machine.close);
  const lifecycle = await startLifecycle({
    stateDir: sandbox.stateDir,
    machine,
    distributions: () => k3sDistribution(),
    artifacts: (source) => artifactSource(source),
    settings: { artifacts: sandbox.artifacts, renewBeforeMs: 60_000, followKubelet: false, statusIntervalMs: 10_000 },
    metrics: lifecycleMetrics(new Registry()),
    onError: () => undefined,
  });
  const { service } = lifecycle;
  after(lifecycle.stop);
  const spec = { clusterType: 'k3s', version: OLD };
  await service.create({ apiVersion: 'v1alpha1', kind: 'Cluster', spec }, asking('create'));
  await settled(lifecycle, 'Provisioned');

  const written = readFileSync(join(sandbox.root, 'etc/rancher/k3s/k3s.yaml'), 'utf8');
  expect(written).toMatch(/^ +server: https:\/\/127\.0\.0\.1:\d+$/m);
  const { contents } = await service.kubeconfig(asking('read').requester);
  expect(contents).toBe(written.replace('https://127.0.0.1:', 'https://192.0.2.5:'));
});

const kubeconfig = (server: string) => `apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: MTI3LjAuMC4x
    server: ${server}
  name: default
contexts:
- context: {cluster: default, user: default}
  name: default
current-context: default
kind: Config
`;

test.each([
  { what: "the machine's address", server: 'https://127.0.0.1:6443', to: 'https://192.0.2.5:6443' },
  { what: 'an IPv6 address', server: 'https://127.0.0.1:6443', addresses: ['2001:db8::2'], to: 'https://[2001:db8::2]:6443' },
  { what: 'the port as it is, from IPv6', server: 'https://[::1]:7443', to: 'https://192.0.2.5:7443' },
  { what: 'k3s on all addresses', server: 'https://0.0.0.0:6443', to: 'https://192.0.2.5:6443' },
  { what: 'the setting node-ip', server: 'https://127.0.0.1:6443', nodeIP: '198.51.100.7', to: 'https://198.51.100.7:6443' },
  {
    what: 'the first of the setting node-ip',
    server: 'https://127.0.0.1:6443',
    nodeIP: 'fd00::7,198.51.100.7',
    to: 'https://[fd00::7]:6443',
  },
  { what: 'k3s on one address only', server: 'https://198.51.100.9:6443', to: 'https://198.51.100.9:6443' },
  { what: 'a machine without an address', server: 'https://127.0.0.1:6443', addresses: [], to: 'https://127.0.0.1:6443' },
])('server of the kubeconfig: $what', ({ server, addresses = ['192.0.2.5', '2001:db8::5'], nodeIP, to }) => {
  const spec = { clusterType: 'k3s' as const, ...(nodeIP && { extraArgs: { 'server.node-ip': nodeIP } }) };
  expect(k3sKubeconfig(kubeconfig(server), spec, { ...FACTS, addresses })).toBe(kubeconfig(to));
});
