import { createServer } from 'node:net';
import { expect, test } from 'vitest';
import { parentConnection } from '../../src/agent/parent/parent.ts';
import { type Dialled, dial } from '../../src/agent/tunnel/dial.ts';
import { attachPath } from '../../src/tunnel/protocol.ts';
import { makeCa } from '../hub/auth/pki.ts';
import { cleanUp } from '../support/clean-up.ts';
import { connectProxy } from './support/connect-proxy.ts';
import { socketServer } from './support/socket-server.ts';

const { after, signal } = cleanUp();
const ID = '6b0f9c53-2a0b-4b53-9d1f-0e7a5f3c1d2e';

async function server() {
  const made = await socketServer();
  after(() => made.close());
  return made;
}
async function proxy(password?: string) {
  const made = await connectProxy(password);
  after(() => made.close());
  return made;
}
const to = (url: string, ca: string, environment: NodeJS.ProcessEnv = {}, serverName = '') =>
  parentConnection({ url, caFile: '', ca, serverName }, () => undefined, environment);
async function ask(parent: ReturnType<typeof to>, have: string[] = []): Promise<Dialled> {
  const dialled = await dial({ parent, clusterId: ID, token: 'sesame', instance: 'i1', version: '1.2.3', have, signal: signal() });
  if (dialled.kind === 'attached') after(() => dialled.socket.destroy());
  return dialled;
}

test('a tunnel is asked for at attach, with POST, the token, the instance and what there is already', async () => {
  const hub = await server();
  expect(await ask(to(hub.url, hub.ca), ['z'])).toMatchObject({ kind: 'attached', replica: 'a', replicas: 2 });
  expect(hub.asked).toMatchObject([
    {
      method: 'POST',
      path: attachPath(ID),
      headers: {
        upgrade: 'fairlead/1',
        connection: 'Upgrade',
        authorization: 'Bearer sesame',
        'fairlead-instance': 'i1',
        'fairlead-version': '1.2.3',
        'fairlead-have': 'z',
      },
    },
  ]);
});

test('a path in the URL of the parent is kept in front', async () => {
  const hub = await server();
  await ask(to(`${hub.url}/k8s/clusters/c-1`, hub.ca));
  expect(hub.asked[0]?.path).toBe(`/k8s/clusters/c-1${attachPath(ID)}`);
});

test('a replica that is there already, and refusals with their Retry-After, are told apart', async () => {
  const hub = await server();
  expect(await ask(to(hub.url, hub.ca), ['a'])).toEqual({ kind: 'duplicate', replica: 'a', replicas: 2, retryAfterMs: 0 });
  const body = JSON.stringify({ kind: 'Status', message: 'too many at once', code: 429 });
  hub.refuse = () => ({ code: 429, body, headers: { 'Retry-After': '3' } });
  expect(await ask(to(hub.url, hub.ca))).toEqual({ kind: 'answered', code: 429, message: 'too many at once', retryAfterMs: 3_000 });
  hub.refuse = () => ({ code: 502, body: '<html>\n bad\n gateway</html>' });
  expect(await ask(to(hub.url, hub.ca))).toMatchObject({ code: 502, message: '<html> bad gateway</html>' });
});

test('a parent whose certificate is of another CA, or of another name, gets no token', async () => {
  const hub = await server();
  await expect(ask(to(hub.url, makeCa('parent-ca').cert))).rejects.toThrow(/certificate|signature/i);
  await expect(ask(to(hub.url, hub.ca, {}, 'other.example'))).rejects.toThrow('other.example');
  // Without any CA the system's count, which do not know this one; the variable that turns Node's verification off changes nothing.
  process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0';
  after(() => delete process.env['NODE_TLS_REJECT_UNAUTHORIZED']);
  await expect(ask(to(hub.url, ''))).rejects.toThrow(/certificate/i);
  expect(hub.asked).toEqual([]);
});

test('the CA that the registration brought is trusted beside those of the system', async () => {
  const hub = await server();
  const parent = parentConnection({ url: hub.url, caFile: '', ca: '', serverName: '' }, () => hub.ca, {});
  expect(await ask(parent)).toMatchObject({ kind: 'attached' });
});

test('HTTPS_PROXY is honoured by CONNECT, with its user and password, for a name that only the proxy can resolve', async () => {
  const [hub, through] = [await server(), await proxy('me:p@ss')];
  const environment = { HTTPS_PROXY: `http://me:p%40ss@127.0.0.1:${through.port}` };
  const parent = to(`https://parent.example:${hub.port}`, hub.ca, environment);
  expect(await ask(parent)).toMatchObject({ kind: 'attached', replica: 'a' });
  expect(through.asked.map(({ target }) => target)).toEqual([`parent.example:${hub.port}`]);
  // What the agent asks by REST takes the same way.
  const client = parent.client(() => 'sesame');
  after(() => client.close());
  await expect(client.request({ path: '/version', timeoutMs: 300 })).rejects.toThrow();
  expect(through.asked).toHaveLength(2);
});

test('NO_PROXY is honoured', async () => {
  const [hub, through] = [await server(), await proxy()];
  const url = `https://parent.example:${hub.port}`;
  const environment = { HTTPS_PROXY: `http://127.0.0.1:${through.port}`, NO_PROXY: '.example' };
  await expect(ask(to(url, hub.ca, environment))).rejects.toThrow('parent.example');
  expect(through.asked).toEqual([]);
});

test('a proxy that refuses is named, its password is not', async () => {
  const [hub, through] = [await server(), await proxy('me:right')];
  const environment = { HTTPS_PROXY: `http://me:wr0ng@127.0.0.1:${through.port}` };
  const failure = ask(to(`https://parent.example:${hub.port}`, hub.ca, environment));
  await expect(failure).rejects.toThrow(`127.0.0.1:${through.port}: it answered 407`);
  await expect(failure).rejects.not.toThrow('wr0ng');
});

test('a server that never answers is given up when the signal is aborted, and nothing stays open', async () => {
  const silent = createServer((socket) => {
    socket.on('error', () => undefined);
    after(() => socket.destroy());
  });
  after(() => silent.close());
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  const address = silent.address();
  const port = typeof address === 'object' ? address?.port : 0;
  const stop = new AbortController();
  const parent = to(`https://127.0.0.1:${port}`, '');
  const dialled = dial({ parent, clusterId: ID, token: 't', instance: 'i', version: 'v', have: [], signal: stop.signal });
  silent.once('connection', () => stop.abort());
  await expect(dialled).rejects.toThrow('given up');
  await expect.poll(() => new Promise((resolve) => silent.getConnections((_error, count) => resolve(count)))).toBe(0);
});
