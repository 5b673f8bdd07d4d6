import { type Duplex, duplexPair, PassThrough, type Readable, Writable } from 'node:stream';
import { Registry } from 'prom-client';
import { type HubPeers, type HubPeersOptions, hubPeers } from '../../../../src/hub/sockets/peers/peers.ts';
import type { LocalTunnels, TunnelInfo } from '../../../../src/hub/sockets/peers/tunnel-list.ts';
import type { Exchange, RawHeaders, RequestHead, Upstream } from '../../../../src/tunnel/upstream.ts';
import type { KubeApi } from '../../../support/kube-api.ts';

export const NAMESPACE = 'fairlead-system';
export const SERVICE = 'fairlead-hub';
export const SECRET = 'fairlead-hub-peers';
export const SECRET_PATH = `/api/v1/namespaces/${NAMESPACE}/secrets/${SECRET}`;
const SLICES = `/apis/discovery.k8s.io/v1/namespaces/${NAMESPACE}/endpointslices`;

/** The tunnels of one replica, set by the test. */
export type FakeTunnels = LocalTunnels & {
  set(id: string, upstream: Upstream, info?: Partial<TunnelInfo>): void;
  remove(id: string, because?: 'left'): void;
  /** As `remove`, but nobody is told. */
  forget(id: string): void;
};

export function fakeTunnels(): FakeTunnels {
  const tunnels = new Map<string, { info: TunnelInfo; upstream: Upstream }>();
  const listeners = new Set<() => void>();
  const left = new Set<string>();
  const tell = () => {
    for (const listener of listeners) listener();
  };
  return {
    local: () => [...tunnels.values()].map(({ info }) => info),
    find: (id) => tunnels.get(id)?.upstream,
    hasLeft: (id) => left.has(id),
    onChange(listener, signal) {
      listeners.add(listener);
      signal.addEventListener('abort', () => listeners.delete(listener), { once: true });
    },
    set(id, upstream, info = {}) {
      const process = { instance: 'one', rank: 1, tookOver: false };
      const whole = {
        id,
        protocol: 'fairlead',
        agentVersion: '1.2.3',
        ...process,
        since: new Date(),
        draining: false,
        roundTripMs: 1,
        ...info,
      };
      tunnels.set(id, { info: whole, upstream });
      tell();
    },
    remove(id, because) {
      if (because === 'left') left.add(id);
      else left.delete(id);
      tunnels.delete(id);
      tell();
    },
    forget: (id) => void tunnels.delete(id),
  };
}

export type Replica = { peers: HubPeers; tunnels: FakeTunnels; registry: Registry; news: string[]; errors: unknown[] };

export async function startReplica(
  api: KubeApi,
  identity: string,
  options: Partial<HubPeersOptions> & { signal: AbortSignal },
): Promise<Replica> {
  const [tunnels, registry, news, errors] = [fakeTunnels(), new Registry(), [] as string[], [] as unknown[]];
  const peers = await hubPeers({
    client: api.client,
    namespace: NAMESPACE,
    service: SERVICE,
    identity,
    secret: SECRET,
    bindAddress: '127.0.0.1',
    port: 0,
    tunnels,
    registry,
    onError: (error) => errors.push(error),
    onNews: (text) => news.push(text),
    ...options,
  });
  return { peers, tunnels, registry, news, errors };
}

/** An EndpointSlice of the hub's Service with one endpoint on loopback. */
export function putSlice(api: KubeApi, name: string, port: number, ready = true): void {
  api.put(SLICES, {
    metadata: { name, labels: { 'kubernetes.io/service-name': SERVICE } },
    addressType: 'IPv4',
    endpoints: [{ addresses: ['127.0.0.1'], conditions: { ready } }],
    ports: [
      { name: 'https', port: 1, protocol: 'TCP' },
      { name: 'peers', port, protocol: 'TCP' },
    ],
  });
}
export const removeSlice = (api: KubeApi, name: string) => api.remove(`${SLICES}/${name}`);

/** What an upstream of the tests was asked. */
export type Asked = { head: RequestHead; protocol: string | undefined; aborted: boolean };

/**
 * A target: `/hang` never answers, `/stream` answers with a head and the body as the test writes it, everything else sends the body back with the request's
 * trailers. An upgrade gets an echo with half close, or what `onUpgrade` does with the far end.
 */
export function target(
  name: string,
): Upstream & { asked: Asked[]; streams: Writable[]; onUpgrade: (connection: Duplex, near: Duplex) => void } {
  const asked: Asked[] = [];
  const streams: Writable[] = [];
  const note = (head: RequestHead, protocol?: string): Exchange & { entry: Asked } => {
    const entry = { head, protocol, aborted: false };
    asked.push(entry);
    return {
      entry,
      abort: () => {
        entry.aborted = true;
      },
    };
  };
  const self = {
    asked,
    streams,
    onUpgrade: (connection: Duplex, _near: Duplex): void => void connection.pipe(connection),
    exchange(
      head: RequestHead,
      body: { stream: Readable; trailers: () => RawHeaders } | undefined,
      answer: Parameters<Upstream['exchange']>[2],
    ) {
      const exchange = note(head);
      if (head.path.startsWith('/hang')) return exchange;
      const trailer = body ? ['trailer', 'x-sum'] : [];
      const sink = answer.head(200, ['x-target', name, 'x-path', head.path, 'x-twice', 'a', 'x-twice', 'b', ...trailer]);
      if (head.path.startsWith('/stream')) streams.push(sink);
      else if (!body) sink.end(name);
      else {
        body.stream.on('data', (chunk) => {
          if (!sink.write(chunk)) body.stream.pause();
        });
        sink.on('drain', () => body.stream.resume());
        body.stream.on('end', () => {
          answer.trailers(body.trailers());
          sink.end();
        });
      }
      return exchange;
    },
    upgrade(head: RequestHead, protocol: string, answer: Parameters<Upstream['upgrade']>[2]) {
      note(head, protocol);
      const [near, far] = duplexPair();
      near.on('error', () => undefined);
      answer.switched(['x-target', name], near);
      self.onUpgrade(far, near);
      return { abort: () => near.destroy() };
    },
  };
  return self;
}

export type Got = { code: number; headers: RawHeaders; body: Buffer; trailers: RawHeaders };

/** Sends a request and reads the whole answer. Rejects with what `fail` was called with. */
export function ask(
  upstream: Upstream,
  request: Partial<RequestHead> & { body?: Readable; bodyTrailers?: RawHeaders },
  hooks: { onHead?: (code: number) => void; onData?: (chunk: Buffer) => void; begun?: (exchange: Exchange) => void } = {},
): Promise<Got> {
  return new Promise((resolve, reject) => {
    const got: Got = { code: 0, headers: [], body: Buffer.alloc(0), trailers: [] };
    const chunks: Buffer[] = [];
    const { body, bodyTrailers = [], ...head } = request;
    const exchange = upstream.exchange(
      { method: 'GET', scheme: 'https', authority: 'direct', path: '/', headers: [], ...head },
      body && { stream: body, trailers: () => bodyTrailers },
      {
        head(code, headers) {
          got.code = code;
          got.headers = headers;
          hooks.onHead?.(code);
          const sink = new Writable({
            write(chunk: Buffer, _encoding, done) {
              chunks.push(chunk);
              hooks.onData?.(chunk);
              done();
            },
          });
          sink.on('finish', () => resolve({ ...got, body: Buffer.concat(chunks) }));
          return sink;
        },
        trailers(headers) {
          got.trailers = headers;
        },
        fail: reject,
      },
    );
    hooks.begun?.(exchange);
  });
}

/** Upgrades and gives the connection. */
export function upgrade(upstream: Upstream, path: string, protocol = 'websocket'): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    upstream.upgrade({ method: 'POST', scheme: 'https', authority: 'direct', path, headers: [] }, protocol, {
      head: (code) => {
        reject(new Error(`not switched: ${code}`));
        return new PassThrough().resume();
      },
      trailers: () => undefined,
      fail: reject,
      switched: (_headers, stream) => resolve(stream),
    });
  });
}
