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
