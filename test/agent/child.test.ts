import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { childCluster } from '../../src/agent/child/child.ts';
import { makeCa } from '../hub/auth/pki.ts';
import { cleanUp } from '../support/clean-up.ts';
import { waitUntil } from '../support/wait-until.ts';

const clean = cleanUp();

test('the cluster of a bare machine comes, changes its certificates, goes, and comes back as another one, without a restart', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-child-'));
  clean.after(() => rm(folder, { recursive: true, force: true }));
  const path = join(folder, 'admin.conf');
  const kubeconfig = async (server: string, ca: string) => {
    const cluster = { server, 'certificate-authority-data': Buffer.from(ca).toString('base64') };
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'c',
      contexts: [{ name: 'c', context: { cluster: 'c', user: 'u' } }],
      clusters: [{ name: 'c', cluster }],
      users: [{ name: 'u', user: { token: 't' } }],
    };
    await writeFile(`${path}.new`, JSON.stringify(config));
    await rename(`${path}.new`, path);
  };
  const [first, second] = [makeCa('first').cert, makeCa('second').cert];
  let place: string | undefined;
  const errors: unknown[] = [];
  const child = await childCluster({
    kubeconfig: () => place,
    optional: true,
    signal: clean.signal(),
    onError: (error) => errors.push(error),
    lookMs: 10,
  });
  expect(child.client()).toBeUndefined();
  // It is being made: its kubeconfig is there, and the lifecycle does not name it yet.
  await kubeconfig('https://192.0.2.1:6443', first);
  expect(child.connection()).toBeUndefined();
  place = path;
  await waitUntil(() => child.connection()?.server === 'https://192.0.2.1:6443', 'the cluster');
  expect(child.connection()?.ca).toContain(first.trim());
  const client = child.client();
  await kubeconfig('https://192.0.2.1:6443', second);
  await waitUntil(() => child.connection()?.ca?.includes(second.trim()) === true, 'the other CA');
  expect(child.client()).not.toBe(client);
  place = undefined;
  await waitUntil(() => child.client() === undefined, 'the cluster to be gone');
  await rm(path);
  place = path;
  await kubeconfig('https://192.0.2.1:6443', first);
  await waitUntil(() => child.connection()?.ca?.includes(first.trim()) === true, 'the new cluster');
  expect(errors).toEqual([]);
});

test.each([
  ['a path, as Rancher and kubectl infra kubeconfig have it', { server: 'https://192.0.2.1/k8s/clusters/c-1' }, '/k8s/clusters/c-1'],
  ['a query', { server: 'https://192.0.2.1:6443/?x' }, 'nothing behind it'],
  ['no TLS', { server: 'http://192.0.2.1:8080' }, 'without https'],
  ['a proxy', { server: 'https://192.0.2.1:6443', 'proxy-url': 'http://proxy:3128' }, 'proxy-url'],
  ['no verification', { server: 'https://192.0.2.1:6443', 'insecure-skip-tls-verify': true }, 'insecure-skip-tls-verify'],
])(
  'a kubeconfig with %s is refused: callers would get elsewhere than the probes, with the credential of the agent',
  async (_what, cluster, named) => {
    const folder = await mkdtemp(join(tmpdir(), 'fairlead-child-'));
    clean.after(() => rm(folder, { recursive: true, force: true }));
    const path = join(folder, 'kubeconfig');
    const config = {
      'current-context': 'c',
      contexts: [{ name: 'c', context: { cluster: 'c', user: 'u' } }],
      clusters: [{ name: 'c', cluster }],
      users: [{ name: 'u', user: { token: 'secret' } }],
    };
    await writeFile(path, JSON.stringify(config));
    const started = childCluster({ kubeconfig: () => path, optional: false, signal: clean.signal(), onError: () => undefined });
    await expect(started).rejects.toThrow(named);
    await expect(started).rejects.not.toThrow('secret');
  },
);
