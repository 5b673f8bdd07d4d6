import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KubeConfig } from '@kubernetes/client-node';
import { expect, test, vi } from 'vitest';
import { kubeClient } from '../../src/kube/client.ts';
import { KubeError, KubeUnreachableError } from '../../src/kube/errors.ts';
import { makeCa, makeServer } from '../hub/auth/pki.ts';
import { cleanUp } from '../support/clean-up.ts';
import { kubeApi } from '../support/kube-api.ts';

const cleaning = cleanUp();
const ca = makeCa('api-ca');
const pair = makeServer(ca);
const base64 = (text: string) => Buffer.from(text).toString('base64');
const PATH = '/api/v1/namespaces/x/configmaps';

async function setUp(tls = true) {
  const api = await kubeApi(tls ? { tls: { ...pair, ca: ca.cert } } : {});
  cleaning.after(api.close);
  return api;
}
function clientOf(server: string, cluster: object = {}, user: object = {}, options: Parameters<typeof kubeClient>[1] = {}) {
  const config = new KubeConfig();
  config.loadFromClusterAndUser({ name: 'c', server, skipTLSVerify: false, caData: base64(ca.cert), ...cluster }, { name: 'u', ...user });
  const client = kubeClient(config, options);
  cleaning.after(client.close);
  return client;
}

test('the certificate of the server is verified: another CA, and another name, get no request', async () => {
  const api = await setUp();
  expect(await clientOf(api.server).request({ path: PATH })).toMatchObject({ kind: 'List' });
  const seen = api.seen.length;
  await expect(clientOf(api.server, { caData: base64(makeCa('other').cert) }).request({ path: PATH })).rejects.toThrow(
    KubeUnreachableError,
  );
  await expect(clientOf(api.server, { tlsServerName: 'elsewhere' }).request({ path: PATH })).rejects.toThrow(KubeUnreachableError);
  expect(api.seen).toHaveLength(seen);
});

test('proxy-url: the connection goes through the proxy by CONNECT, and TLS is with the server behind it', async () => {
  const api = await setUp();
  const tunnels: string[] = [];
  const proxy = createServer();
  proxy.on('connect', (request, socket, head) => {
    tunnels.push(request.url ?? '');
    const [host = '', port] = (request.url ?? '').split(':');
    const onward = connect(Number(port), host, () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      onward.write(head);
      onward.pipe(socket).pipe(onward);
    });
    for (const end of [onward, socket]) end.on('error', () => undefined);
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  cleaning.after(() => proxy.close());
  const proxyUrl = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  expect(await clientOf(api.server, { proxyUrl }).request({ path: PATH })).toMatchObject({ kind: 'List' });
  expect(tunnels).toEqual([api.server.replace('https://', '')]);
  await expect(clientOf(api.server, { proxyUrl, caData: base64(makeCa('other').cert) }).request({ path: PATH })).rejects.toThrow(
    KubeUnreachableError,
  );
});

test('a token file is read again after it was rotated; while it is missing, errors say that nothing was sent', async () => {
  const api = await setUp();
  const folder = await mkdtemp(join(tmpdir(), 'token-'));
  cleaning.after(() => rm(folder, { recursive: true }));
  const file = join(folder, 'token');
  await writeFile(file, 'first');
  vi.useFakeTimers({ toFake: ['performance', 'Date'] });
  cleaning.after(() => vi.useRealTimers());
  const client = clientOf(api.server, {}, { authProvider: { name: 'tokenFile', config: { tokenFile: file } } });
  const token = async () => {
    await client.request({ path: PATH });
    return api.seen.at(-1)?.headers.authorization;
  };
  expect(await token()).toBe('Bearer first');
  await writeFile(file, 'second');
  vi.advanceTimersByTime(70_000);
  expect(await token()).toBe('Bearer second');
  await rm(file);
  vi.advanceTimersByTime(70_000);
  await expect(token()).rejects.toMatchObject({ name: 'KubeUnreachableError', sent: false });
});

test('refusals are KubeError with the Status of the server, or one made from what a proxy answered', async () => {
  const api = await setUp(false);
  await expect(api.client.request({ path: `${PATH}/none` })).rejects.toMatchObject({ code: 404, reason: 'NotFound' });
  for (const [code, body, message] of [
    [502, '<html>bad gateway</html>', '<html>bad gateway</html>'],
    [503, '', 'the server answered 503'],
    [302, '', 'the server answered 302'],
    [500, 'x'.repeat(10_000), 'x'.repeat(512)],
  ] as const) {
    const back = api.fault(() => ({ code, body }));
    await expect(api.client.request({ path: PATH })).rejects.toMatchObject({ name: 'KubeError', code, message });
    back();
  }
  const back = api.fault(() => ({ code: 200, body: 'no JSON' }));
  await expect(api.client.request({ path: PATH })).rejects.toThrow('the answer is not JSON');
  back();
});

test('a lost answer says that the request may have been carried out; a refused connection that it surely was not', async () => {
  const api = await setUp(false);
  const body = { metadata: { name: 'a' } };
  const back = api.fault(() => 'lose');
  await expect(api.client.request({ method: 'POST', path: PATH, body })).rejects.toMatchObject({
    name: 'KubeUnreachableError',
    sent: true,
  });
  back();
  expect(api.get(`${PATH}/a`)).toBeDefined();
  const gone = await kubeApi();
  await gone.close();
  const client = clientOf(gone.server, { skipTLSVerify: true });
  await expect(client.request({ path: PATH })).rejects.toMatchObject({ name: 'KubeUnreachableError', sent: false });
});

test('a server that says nothing, or stops in the middle, is given up after the time limit; an abort ends at once', async () => {
  const api = await setUp(false);
  const back = api.fault(() => 'silence');
  await expect(api.client.request({ path: PATH, timeoutMs: 100 })).rejects.toThrow('no answer within 100 ms');
  const stop = new AbortController();
  const waiting = api.client.request({ path: PATH, signal: stop.signal });
  stop.abort(new Error('given up'));
  await expect(waiting).rejects.toThrow('given up');
  await expect(api.client.request({ path: PATH, signal: AbortSignal.abort(new Error('before')) })).rejects.toThrow('before');
  back();
  const half = createServer((_request, response) => {
    response.writeHead(200, { 'content-length': '100' }).write('{');
  });
  await new Promise<void>((resolve) => half.listen(0, '127.0.0.1', resolve));
  cleaning.after(() => {
    half.closeAllConnections();
    half.close();
  });
  const client = clientOf(`http://127.0.0.1:${(half.address() as AddressInfo).port}`, { skipTLSVerify: true });
  await expect(client.request({ path: PATH, timeoutMs: 100 })).rejects.toBeInstanceOf(KubeUnreachableError);
});

test('paths, queries, bodies and impersonation arrive as they were given', async () => {
  const api = await setUp();
  const client = clientOf(api.server, {}, {}, { impersonate: { user: 'u', groups: ['a', 'b'], extra: { 'Key/x': ['1', '2'] } } });
  await client.request({ path: PATH, query: { limit: 5, watch: false, continue: undefined, labelSelector: 'a in (b,c)' } });
  const seen = api.seen.at(-1);
  expect(Object.fromEntries(seen?.query ?? [])).toEqual({ limit: '5', watch: 'false', labelSelector: 'a in (b,c)' });
  expect(seen?.headers).toMatchObject({ 'impersonate-user': 'u', 'impersonate-group': 'a, b', 'impersonate-extra-key%2fx': '1, 2' });
  expect(new KubeError(418, {}).message).toContain('418');
});
