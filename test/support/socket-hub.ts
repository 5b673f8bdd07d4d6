import { randomUUID } from 'node:crypto';
import { type IncomingMessage, type RequestListener, request, type ServerResponse } from 'node:http';
import type { ServerHttp2Stream } from 'node:http2';
import { createServer, type Server } from 'node:https';
import { connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectTLS } from 'node:tls';
import { Registry } from 'prom-client';
import { upstreamHandler } from '../../src/agent/upstream/handler.ts';
import type { UserInfo } from '../../src/hub/auth/user.ts';
import { toStatusError } from '../../src/hub/http/errors.ts';
import type { SocketCluster } from '../../src/hub/sockets/clusters.ts';
import type { Admit } from '../../src/hub/sockets/gate.ts';
import type { SocketLimits } from '../../src/hub/sockets/limits.ts';
import { isSocketPath } from '../../src/hub/sockets/socket-path.ts';
import { type SocketRoom, socketRoom } from '../../src/hub/sockets/socket-room.ts';
import { type TunnelDirectory, tunnelDirectory } from '../../src/hub/sockets/tunnel-directory.ts';
import { forbidden } from '../../src/kube/status.ts';
import { ATTACH_HEADERS, attachPath, UPGRADE_TOKEN } from '../../src/tunnel/protocol.ts';
import { type AgentTunnel, acceptTunnel, type SessionTiming } from '../../src/tunnel/session.ts';
import { unblocked } from '../../src/tunnel/unblocked.ts';
import { makeCa, makeServer } from '../hub/auth/pki.ts';
import { listening } from './socket-pair.ts';

type Decide = (user: UserInfo, verb: string, subresource: string, name: string) => boolean;

/** The sockets of one hub replica, with as many clusters as a test wants. */
export type SocketHub = {
  port: number;
  ca: string;
  room: SocketRoom;
  directory: TunnelDirectory;
  /** What the room told of takeovers and opened sockets. */
  takenOver: string[];
  opened: Array<{ id: string; credentialID: string | undefined }>;
  /** Answers that are being written. */
  responses: Set<ServerResponse>;
  addCluster(more?: Partial<SocketCluster>): string;
  setCluster(id: string, change: Partial<SocketCluster> | undefined): void;
  allow(decide: Decide): void;
  /** Value of a metric with these labels; 0 when there is none. */
  metric(name: string, labels?: Record<string, string>): Promise<number>;
  errors: unknown[];
  close(): Promise<void>;
};

export const user = (name: string, more: Partial<UserInfo> = {}): UserInfo => ({ name, uid: '', groups: [], extra: {}, ...more });
export const asUser = (who: UserInfo) => ({ 'x-test-user': JSON.stringify(who) });

/** Users come from the header `x-test-user` (JSON of a UserInfo), as the front proxy's would. */
export async function socketHub(options: { limits?: SocketLimits; perSecond?: number } = {}): Promise<SocketHub> {
  const lifetime = new AbortController();
  const clusters = new Map<string, SocketCluster>();
  const listeners = new Set<(id: string) => void>();
  const errors: unknown[] = [];
  const takenOver: string[] = [];
  const opened: SocketHub['opened'] = [];
  const responses = new Set<ServerResponse>();
  const registry = new Registry();
  const directory = tunnelDirectory();
  let decide: Decide = () => true;
  const room = socketRoom({
    directory,
    clusters: {
      find: (id) => clusters.get(id),
      synced: () => true,
      onChange: (listener) => void listeners.add(listener),
      opened: (id, credentialID) => void opened.push({ id, credentialID }),
      takenOver: (id) => void takenOver.push(id),
    },
    peers: { find: () => undefined, connection: () => undefined, lastEnd: () => undefined, replicas: () => 1 },
    stillAllowed: async (admitted, info) => decide(admitted.user, info.verb, info.subresource, info.name),
    limits: options.limits ?? { perUser: 20_000, perCluster: 20_000 },
    attach: { identity: 'hub-0', perSecond: options.perSecond ?? 1_000 },
    registry,
    toStatus: (error) => toStatusError(error, (_id, cause) => errors.push(cause)),
    upgraded: () => undefined,
    closing: lifetime.signal,
    signal: lifetime.signal,
    onError: (error) => errors.push(error),
  });
  const admit: Admit = async (request, info) => {
    const header = request.headers['x-test-user'];
    const who = typeof header === 'string' ? (JSON.parse(header) as UserInfo) : user('jane');
    if (!decide(who, info.verb, info.subresource, info.name)) throw forbidden({}, 'not allowed by the test');
    return { user: who, via: 'frontProxy' };
  };
  const ca = makeCa('hub-ca');
  const keys = makeServer(ca);
  const wants = (request: IncomingMessage) => isSocketPath(request.url) && room.wantsUpgrade(request);
  const server = createServer({ cert: keys.cert, key: keys.key, shouldUpgradeCallback: wants } as object, (request, response) => {
    responses.add(response);
    response.once('close', () => responses.delete(response));
    room.serve(admit, request, response);
  });
  server.on('upgrade', (request, socket: Duplex, head: Buffer) => room.upgrade(admit, request, socket, head));
  const port = await listening(server);
  return {
    port,
    ca: ca.cert,
    room,
    directory,
    takenOver,
    opened,
    responses,
    errors,
    addCluster(more = {}) {
      const id = randomUUID();
      const settings = { apiserverURL: undefined, childCA: undefined, childInsecure: false, credentialIDs: undefined };
      clusters.set(id, { id, name: id.slice(0, 8), namespace: 'edge', ...settings, ...more });
      return id;
    },
    setCluster(id, change) {
      const known = clusters.get(id);
      if (!change || !known) clusters.delete(id);
      else clusters.set(id, { ...known, ...change });
      for (const listener of listeners) listener(id);
    },
    allow(next) {
      decide = next;
    },
    async metric(name, labels = {}) {
      const { values } = (await registry.getSingleMetric(name)?.get()) ?? { values: [] };
      return values.find((value) => Object.entries(labels).every(([key, text]) => value.labels[key] === text))?.value ?? 0;
    },
    async close() {
      lifetime.abort();
      await room.drain(0, Promise.resolve());
      await closeServer(server);
      const unexpected = errors.filter((error) => !(error instanceof Error && error.name === 'AbortError'));
      if (unexpected.length > 0) throw new AggregateError(unexpected, 'errors that nobody foresaw');
    },
  };
}

export async function closeServer(server: Server): Promise<void> {
  await new Promise<void>((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}

/** One agent machine: a child with TLS that answers as the test says, and the agent's upstream in front of it. */
export type AgentMachine = {
  child: Server;
  /** Requests through tunnels that are open at the agent. */
  streams: Set<ServerHttp2Stream>;
  attach(id: string, options?: AttachAs): Promise<Attached>;
  close(): Promise<void>;
};
export type AttachAs = { instance?: string; user?: UserInfo; have?: string; timing?: SessionTiming; port?: number };
export type Attached = { tunnel: AgentTunnel; socket: Socket; headers: IncomingMessage['headers'] };

/** An attach that was refused. */
export class AttachRefused extends Error {
  readonly code: number;
  readonly headers: IncomingMessage['headers'];
  constructor(response: IncomingMessage) {
    super(`attach was answered ${response.statusCode}`);
    this.code = response.statusCode ?? 0;
    this.headers = response.headers;
  }
}

export async function agentMachine(
  hub: SocketHub,
  serveChild: RequestListener,
  onChildUpgrade?: (request: IncomingMessage, socket: Socket, head: Buffer) => void,
): Promise<AgentMachine> {
  const ca = makeCa('child-ca');
  const keys = makeServer(ca);
  const child = createServer({ cert: keys.cert, key: keys.key }, serveChild);
  child.keepAliveTimeout = 90_000;
  if (onChildUpgrade) child.on('upgrade', onChildUpgrade);
  const childPort = await listening(child);
  const streams = new Set<ServerHttp2Stream>();
  const handle = upstreamHandler({
    child: () => ({ server: `https://127.0.0.1:${childPort}`, ca: ca.cert, authorization: async () => 'Bearer agent-token' }),
    allowTargets: [],
    targetCA: () => undefined,
    allowIdentities: [],
    agentAPI: (stream) => stream.respond({ ':status': 200 }, { endStream: true }),
    registry: new Registry(),
    onError: (error) => hub.errors.push(error),
  });
  const tunnels: AgentTunnel[] = [];
  const sockets: Socket[] = [];
  return {
    child,
    streams,
    async attach(id, options = {}) {
      const { headers, socket, head } = await openAttach(hub, id, options);
      const tunnel = acceptTunnel(socket, head, {
        serve(stream, given, raw) {
          streams.add(stream);
          stream.once('close', () => streams.delete(stream));
          handle(stream, given, raw);
        },
        onError: (error) => hub.errors.push(error),
        ...options.timing,
      });
      tunnels.push(tunnel);
      sockets.push(socket);
      return { tunnel, socket, headers };
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await Promise.all(tunnels.map(({ closed }) => closed));
      await closeServer(child);
    },
  };
}

/** The attach request alone: what the connection carries after `101` is the caller's affair. Rejects with AttachRefused. */
export function openAttach(
  hub: SocketHub,
  id: string,
  { instance = 'one', user: who = user('agent'), have = '', port = hub.port }: AttachAs = {},
): Promise<{ headers: IncomingMessage['headers']; socket: Socket; head: Buffer }> {
  return new Promise((resolve, reject) => {
    // As the agent dials.
    const raw = connect(port, '127.0.0.1');
    const line = connectTLS({ socket: unblocked(raw), host: '127.0.0.1', ca: hub.ca, ALPNProtocols: ['http/1.1'] });
    const sent = request({
      createConnection: () => line,
      method: 'POST',
      path: attachPath(id),
      headers: {
        connection: 'Upgrade',
        upgrade: UPGRADE_TOKEN,
        [ATTACH_HEADERS.instance]: instance,
        [ATTACH_HEADERS.version]: '1',
        [ATTACH_HEADERS.have]: have,
        ...asUser(who),
      },
    });
    sent.on('upgrade', (response, socket, head) => resolve({ headers: response.headers, socket: socket as Socket, head }));
    sent.on('response', (response) => {
      response.resume();
      reject(new AttachRefused(response));
    });
    sent.on('error', reject);
    sent.end();
  });
}
