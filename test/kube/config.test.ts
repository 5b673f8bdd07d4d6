import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { RequestOptions } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KubeConfig } from '@kubernetes/client-node';
import { afterAll, expect, test } from 'vitest';
import { loadKubeConfig } from '../../src/kube/config.ts';
import { plainAccess, podAccess } from '../../src/kube/plain-config.ts';

const folder = mkdtempSync(join(tmpdir(), 'fairlead-config-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const base64 = (text: string) => Buffer.from(text).toString('base64');
const config = (cluster: object, user: object) =>
  JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'here',
    contexts: [{ name: 'here', context: { cluster: 'c', user: 'u' } }],
    clusters: [{ name: 'c', cluster: { server: 'https://192.0.2.1:6443', ...cluster } }],
    users: [{ name: 'u', user }],
  });
const write = (name: string, text: string) => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};
async function applied(access: Pick<KubeConfig, 'applyToHTTPSOptions'>) {
  const options: RequestOptions = {};
  await access.applyToHTTPSOptions(options);
  const { ca, cert, key, servername, rejectUnauthorized, headers, auth } = options;
  const part = (value: unknown) => (value === undefined ? undefined : String(value));
  return { ...{ ca: part(ca), cert: part(cert), key: part(key), servername, rejectUnauthorized, auth }, headers: { ...headers } };
}

test.each([
  [
    'a certificate in the file',
    { 'certificate-authority-data': base64('CA') },
    { 'client-certificate-data': base64('C'), 'client-key-data': base64('K') },
  ],
  ['files beside it', { 'certificate-authority': 'ca.crt' }, { 'client-certificate': 'tls.crt', 'client-key': 'tls.key' }],
  ['a token', { 'tls-server-name': 'parent.example' }, { token: 'secret' }],
  ['a name and a password', { 'insecure-skip-tls-verify': true }, { username: 'jane', password: 'p:w' }],
  ['nobody', {}, {}],
])('%s: the same as the library makes of it, without loading it', async (_what, cluster, user) => {
  for (const name of ['ca.crt', 'tls.crt', 'tls.key', 'token']) write(name, name);
  const path = write('config', config(cluster, user));
  const library = new KubeConfig();
  library.loadFromFile(path);
  const plain = await loadKubeConfig(path);
  expect(plain).not.toBeInstanceOf(KubeConfig);
  expect(await applied(plain)).toEqual(await applied(library));
  expect(plain.getCurrentCluster()).toMatchObject(JSON.parse(JSON.stringify(library.getCurrentCluster())));
  expect(plain.getCurrentUser()).toMatchObject({ name: 'u' });
});

test('a file that is renewed is read anew', async () => {
  const tokenFile = write('renewed', 'one\n');
  const access = plainAccess(config({}, { tokenFile, token: 'old' }), folder);
  if (!access) throw new Error('not plain');
  expect((await applied(access)).headers).toEqual({ Authorization: 'Bearer one' });
  write('renewed', 'two\n');
  expect((await applied(access)).headers).toEqual({ Authorization: 'Bearer two' });
});

test.each([
  ['a program', {}, { exec: { command: 'true', apiVersion: 'client.authentication.k8s.io/v1' } }],
  ['a provider', {}, { 'auth-provider': { name: 'oidc' } }],
  ['a proxy', { 'proxy-url': 'http://127.0.0.1:1' }, { token: 't' }],
  ['impersonation', {}, { token: 't', as: 'jane' }],
])('%s is left to the library', async (_what, cluster, user) => {
  const path = write('library', config(cluster, user));
  expect(await loadKubeConfig(path)).toBeInstanceOf(KubeConfig);
});

test.each([
  ['[]', /not a map/],
  ['{"kind":"Pod"}', /kind is Pod/],
  ['a: b: c', /./],
])('what is no kubeconfig is named: %s', async (text, why) => {
  const path = write('wrong', text);
  await expect(loadKubeConfig(path)).rejects.toThrow(why);
  await expect(loadKubeConfig(path)).rejects.toThrow(path);
});

test('a context that leads nowhere has no cluster, and a missing file is named', async () => {
  const access = await loadKubeConfig(write('empty', '{"apiVersion":"v1","kind":"Config","current-context":"gone"}'));
  expect([access.getCurrentCluster(), access.getCurrentUser()]).toEqual([null, null]);
  await expect(loadKubeConfig(join(folder, 'none'))).rejects.toThrow(/kubeconfig .*none: ENOENT/);
});

test('in a pod: the ServiceAccount, by the address of the environment', () => {
  expect(podAccess({})).toBeUndefined();
  const access = podAccess({ KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '443' });
  expect(access?.getCurrentCluster()).toMatchObject({
    server: 'https://[fd00::1]:443',
    skipTLSVerify: false,
    caFile: expect.stringContaining('ca.crt'),
  });
});
