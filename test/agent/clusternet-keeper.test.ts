import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, createServer } from 'node:net';
import type { Duplex } from 'node:stream';
import { expect, test, vi } from 'vitest';
import type { Child } from '../../src/agent/child/child.ts';
import { parentConnection } from '../../src/agent/parent/parent.ts';
import type { Credential } from '../../src/agent/registration/store.ts';
import { clusternetConnect, keepClusternetSession } from '../../src/agent/tunnel/clusternet-keeper.ts';
import type { TunnelEvent } from '../../src/agent/tunnel/keeper.ts';
import { type DialerSession, dialerSession } from '../../src/tunnel/remotedialer/dialer.ts';
import { websocketAcceptor } from '../../src/tunnel/remotedialer/websocket.ts';
import { makeCa, makeServer } from '../hub/auth/pki.ts';
import { cleanUp } from '../support/clean-up.ts';

const { after } = cleanUp();
const CREDENTIAL: Credential = {
  clusterId: '6b0f9c53-2a0b-4b53-9d1f-0e7a5f3c1d2e',
  parentURL: '',
  token: 'one',
  ca: '',
  namespace: 'n',
  managedCluster: 'm',
  obtainedAt: 0,
  expiresAt: undefined,
};

/** A clusternet hub as far as its socket goes. */
async function hub() {
  const authority = makeCa('parent');
  const pair = makeServer(authority);
  const server = createTlsServer({ cert: pair.cert, key: pair.key });
  const sockets = new Set<Duplex>();
  const state = { url: '', ca: authority.cert, asked: [] as { path: string; token: string }[], sessions: [] as DialerSession[], code: 101 };
  const accept = websocketAcceptor();
  server.on('secureConnection', (socket: Duplex) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
  });
  server.on('upgrade', (request, socket: Duplex, head: Buffer) => {
    state.asked.push({ path: request.url ?? '', token: request.headers.authorization ?? '' });
    if (state.code !== 101) return void socket.end(`HTTP/1.1 ${state.code} X\r\nContent-Length: 0\r\n\r\n`);
    accept(request, socket, head, (transport) => {
      const session = dialerSession(transport);
      state.sessions.push(session);
      session.ended.then(
        () => {
          state.sessions = state.sessions.filter((other) => other !== session);
        },
        () => undefined,
      );
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  state.url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  after(async () => {
    const closed = new Promise((resolve) => server.close(resolve));
    for (const socket of sockets) socket.destroy();
    await closed;
  });
  return state;
}
async function echo(): Promise<number> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.pipe(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  after(() => server.close());
  return (server.address() as AddressInfo).port;
}

async function keep(childPort: number) {
  const parent = await hub();
  const stop = new AbortController();
  const events: TunnelEvent[] = [];
  const refused: Credential[] = [];
  let credential: Credential | undefined = CREDENTIAL;
  let tell: () => void = () => undefined;
  const child: Child = {
    client: () => undefined,
    connection: () => ({ server: `https://127.0.0.1:${childPort}`, ca: undefined, authorization: async () => undefined }),
  };
  const keeper = keepClusternetSession({
    parent: parentConnection({ url: parent.url, caFile: '', ca: parent.ca, serverName: '' }, () => undefined, {}),
    clusterId: CREDENTIAL.clusterId,
    version: 'v',
    credential: () => credential,
    onCredential: (listener) => {
      tell = listener;
    },
    refused: (given) => refused.push(given),
    signal: stop.signal,
    onEvent: (event) => events.push(event),
    onError: (error) => expect.fail(String(error)),
    connect: clusternetConnect(child, []),
    timing: { retryMs: 2, longestRetryMs: 20 },
  });
  after(async () => {
    await keeper.stop(0);
    stop.abort();
  });
  const session = () =>
    vi.waitFor(
      () => {
        const [open] = parent.sessions;
        if (!open) throw new Error('no session');
        return open;
      },
      { timeout: 20_000 },
    );
  const change = (given: Credential | undefined) => {
    credential = given;
    tell();
  };
  return { parent, keeper, events, refused, session, change };
}
const firstOf = (stream: Duplex) =>
  new Promise<string>((resolve, reject) => {
    stream.once('data', (chunk: Buffer) => resolve(chunk.toString())).once('error', reject);
  });

test('the hub reaches the API server of the child, and nothing else', async () => {
  const [own, other] = [await echo(), await echo()];
  const { parent, session } = await keep(own);
  const open = await session();
  expect(parent.asked).toEqual([{ path: `/apis/proxies.clusternet.io/v1alpha1/sockets/${CREDENTIAL.clusterId}`, token: 'Bearer one' }]);
  const stream = open.connect('127.0.0.1', own);
  stream.write('hello');
  expect(await firstOf(stream)).toBe('hello');
  stream.destroy();
  await expect(firstOf(open.connect('127.0.0.1', other))).rejects.toThrow(/not allowed|allow/);
});

test('a session that is lost is opened again; without a registration it ends', async () => {
  const { parent, session, change, events } = await keep(await echo());
  (await session()).end('restart');
  await vi.waitFor(() => expect(parent.asked.length).toBeGreaterThan(1), { timeout: 20_000 });
  await session();
  change(undefined);
  await vi.waitFor(() => expect(parent.sessions).toEqual([]));
  const asked = parent.asked.length;
  change({ ...CREDENTIAL, token: 'two' });
  await session();
  expect(parent.asked.slice(asked).map(({ token }) => token)).toEqual(['Bearer two']);
  expect(events.filter(({ kind }) => kind === 'down').map((event) => 'why' in event && event.why)).toEqual(['lost', 'unregistered']);
});

test('a refused token is reported', async () => {
  const { parent, session, refused } = await keep(await echo());
  await session();
  parent.code = 401;
  for (const open of parent.sessions) open.end('gone');
  await vi.waitFor(() => expect(refused.length).toBeGreaterThan(1), { timeout: 20_000 });
});

test('stopping lets open connections end, for so long', async () => {
  const own = await echo();
  const { keeper, session, parent } = await keep(own);
  const stream = (await session()).connect('127.0.0.1', own);
  stream.on('error', () => undefined).write('x');
  await firstOf(stream);
  const stopped = keeper.stop(10_000);
  stream.write('y');
  expect(await firstOf(stream)).toBe('y');
  stream.destroy();
  await stopped;
  await vi.waitFor(() => expect(parent.sessions).toEqual([]));
});
