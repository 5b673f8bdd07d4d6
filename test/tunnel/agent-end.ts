import dns from 'node:dns';
import { once } from 'node:events';
import type { OutgoingHttpHeaders } from 'node:http2';
import { syncBuiltinESMExports } from 'node:module';
import { type AddressInfo, connect, createServer, isIP, type Server, type Socket } from 'node:net';
import { Writable } from 'node:stream';
import { Registry } from 'prom-client';
import { upstreamHandler } from '../../src/agent/upstream/handler.ts';
import type { UpstreamOptions } from '../../src/agent/upstream/settings.ts';
import { type Caller, encodeCaller } from '../../src/tunnel/caller.ts';
import { acceptTunnel, connectTunnel, type HubTunnel } from '../../src/tunnel/session.ts';
import { sessionUpstream } from '../../src/tunnel/session-upstream.ts';
import { TargetError } from '../../src/tunnel/target-error.ts';
import type { Answer, RawHeaders, RequestHead, Upstream } from '../../src/tunnel/upstream.ts';
import type { cleanUp } from '../support/clean-up.ts';

type Clean = ReturnType<typeof cleanUp>;
export type Got = { code: number; headers: RawHeaders; body: string };

/** An agent's upstream behind a real tunnel, and the hub's end of that. What the agent reports as an error of its own is in `errors`. */
export async function agentEnd(
  clean: Clean,
  options: Partial<UpstreamOptions>,
): Promise<{ tunnel: HubTunnel; upstream: Upstream; errors: unknown[] }> {
  const errors: unknown[] = [];
  const serve = upstreamHandler({
    child: () => undefined,
    allowTargets: [],
    targetCA: () => undefined,
    allowIdentities: [],
    agentAPI: (stream) => stream.respond({ ':status': 200, 'x-agent': 'yes' }, { endStream: true }),
    registry: new Registry(),
    onError: (error) => errors.push(error),
    ...options,
  });
  const server = createServer();
  const port = await listen(server);
  const arrived = new Promise<Socket>((resolve) => server.once('connection', resolve));
  const agent = connect({ port, host: '127.0.0.1' });
  await Promise.all([arrived, once(agent, 'connect')]);
  const tunnel = connectTunnel(await arrived, Buffer.alloc(0));
  const accepted = acceptTunnel(agent, Buffer.alloc(0), { serve, onError: (error) => errors.push(error) });
  clean.after(async () => {
    tunnel.destroy('the test is over');
    await Promise.all([tunnel.closed, accepted.closed]);
    server.close();
  });
  return { tunnel, upstream: sessionUpstream(tunnel, 'the agent'), errors };
}

/** Listens on a free port, of all addresses of the machine when `host` says so. */
export async function listen(server: Server, host = '127.0.0.1', port = 0): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
  return (server.address() as AddressInfo).port;
}

/** A listener's connections, ended with the test. */
export function countConnections(clean: Clean, server: Server): { total(): number } {
  const open = new Set<Socket>();
  let total = 0;
  server.on('connection', (socket: Socket) => {
    total++;
    open.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => open.delete(socket));
  });
  clean.after(async () => {
    for (const socket of open) socket.destroy();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  });
  return { total: () => total };
}

export const jane: Caller = { name: 'jane', uid: '', groups: [], extra: {} };

export const headOf = (authority: string, more: Partial<RequestHead> = {}, caller: Caller = jane): RequestHead => ({
  method: 'GET',
  scheme: 'http',
  authority,
  path: '/',
  ...more,
  headers: [...(more.headers ?? []), ...encodeCaller(caller)],
});

/** The whole answer; rejects with what `fail` was told. An answer that was cut is a failure. */
export function ask(upstream: Pick<Upstream, 'exchange'>, head: RequestHead, body?: Parameters<Upstream['exchange']>[1]): Promise<Got> {
  return new Promise((resolve, reject) => {
    const answer: Answer = {
      head(code, headers) {
        const chunks: Buffer[] = [];
        return new Writable({
          write(chunk: Buffer, _encoding, done) {
            chunks.push(chunk);
            done();
          },
          final(done) {
            resolve({ code, headers, body: Buffer.concat(chunks).toString('latin1') });
            done();
          },
        });
      },
      trailers: () => undefined,
      fail: reject,
    };
    upstream.exchange(head, body, answer);
  });
}

/** The TargetError with which a request fails, before or in its answer. */
export async function failure(asked: Promise<Got>): Promise<{ code: number; message: string }> {
  try {
    const { code, body } = await asked;
    const { message } = JSON.parse(body) as { message: string };
    return { code, message };
  } catch (error) {
    if (!(error instanceof TargetError)) throw error;
    return { code: error.code, message: error.message };
  }
}

/** A request with headers as they are, past everything that the hub would have done to them. */
export function rawStream(tunnel: HubTunnel, headers: readonly string[] | OutgoingHttpHeaders): Promise<{ code: number; body: string }> {
  return new Promise((resolve, reject) => {
    const stream = tunnel.session.request(headers as OutgoingHttpHeaders, { endStream: true });
    let [code, body] = [0, ''];
    stream.on('response', (got) => {
      code = got[':status'] ?? 0;
    });
    stream.setEncoding('latin1').on('data', (chunk: string) => {
      body += chunk;
    });
    stream.on('error', reject);
    stream.on('close', () => (stream.rstCode === 0 ? resolve({ code, body }) : reject(new Error(`reset with ${stream.rstCode}`))));
  });
}

/** Makes the resolver of this process answer as the test says, for the time of the test. `asked` has the names, in order. */
export function fakeNames(clean: Clean, resolve: (name: string) => string[]): { asked: string[] } {
  const asked: string[] = [];
  const [real, realPromise] = [dns.lookup, dns.promises.lookup];
  const answer = (name: string) => {
    // Listening at an address asks too.
    const isAddress = isIP(name) !== 0;
    if (!isAddress) asked.push(name);
    return (isAddress ? [name] : resolve(name)).map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
  };
  // Both forms: what dials by name would use the one with a callback.
  dns.promises.lookup = (async (name: string) => answer(name)) as unknown as typeof realPromise;
  dns.lookup = ((name: string, options: unknown, done?: (error: null, addresses: unknown, family?: number) => void) => {
    const [first] = answer(name);
    const callback = typeof options === 'function' ? (options as typeof done) : done;
    const all = typeof options === 'object' && options !== null && 'all' in options && options.all === true;
    queueMicrotask(() => (all ? callback?.(null, first ? [first] : []) : callback?.(null, first?.address, first?.family)));
  }) as unknown as typeof real;
  syncBuiltinESMExports();
  clean.after(() => {
    dns.lookup = real;
    dns.promises.lookup = realPromise;
    syncBuiltinESMExports();
  });
  return { asked };
}
