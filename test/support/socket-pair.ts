import { randomUUID } from 'node:crypto';
import type { createServer, IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { Agent, createServer as createTlsServer, request as httpsRequest, type Server as TlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { Registry } from 'prom-client';
import { upstreamHandler } from '../../src/agent/upstream/handler.ts';
import type { UpstreamOptions } from '../../src/agent/upstream/settings.ts';
import type { UserInfo } from '../../src/hub/auth/user.ts';
import { issueCertificate } from '../../src/hub/certificates/x509.ts';
import { toStatusError } from '../../src/hub/http/errors.ts';
import type { SocketCluster } from '../../src/hub/sockets/clusters.ts';
import type { Admit } from '../../src/hub/sockets/gate.ts';
import { isSocketPath } from '../../src/hub/sockets/socket-path.ts';
import { type SocketRoom, socketRoom } from '../../src/hub/sockets/socket-room.ts';
import { tunnelDirectory } from '../../src/hub/sockets/tunnel-directory.ts';
import { forbidden } from '../../src/kube/status.ts';
import { ATTACH_HEADERS, attachPath, UPGRADE_TOKEN } from '../../src/tunnel/protocol.ts';
import { type AgentTunnel, acceptTunnel, type StreamHandler } from '../../src/tunnel/session.ts';
import { makeCa } from '../hub/auth/pki.ts';

/** The request path from end to end in one process: a hub's sockets, an agent's upstream, and a child with TLS that answers as the test says. */
export type SocketPair = {
  id: string;
  hubPort: number;
  hubCA: string;
  room: SocketRoom;
  child: TlsServer;
  childPort: number;
  /** A plain HTTP server, reachable only when `allowTargets` has it. */
  tunnel: () => AgentTunnel;
  /** What answers the streams of the agent's tunnels. */
  serve: StreamHandler;
  attach: (options?: { instance?: string; have?: string }) => Promise<AgentTunnel>;
  /** Path of the child through the hub. */
  direct: (path: string) => string;
  setCluster: (cluster: SocketCluster | undefined) => void;
  allow: (decide: (user: UserInfo, verb: string, subresource: string, name: string) => boolean) => void;
  close: () => Promise<void>;
};

export type PairOptions = {
  child: RequestListener;
  onChildUpgrade?: (request: IncomingMessage, socket: Socket, head: Buffer) => void;
  upstream?: Partial<UpstreamOptions>;
  limits?: { perUser: number; perCluster: number };
};

export async function listening(server: TlsServer | ReturnType<typeof createServer>): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

/** Users come from the header `x-test-user` (JSON of a UserInfo), as the front proxy's would. */
export async function socketPair(options: PairOptions): Promise<SocketPair> {
  const id = randomUUID();
  const lifetime = new AbortController();
  const [hubCA, childCA] = [makeCa('hub-ca'), makeCa('child-ca')];
  const certificate = (issuer: ReturnType<typeof makeCa>) =>
    issueCertificate({
      commonName: 'server',
      altNames: ['127.0.0.1', 'localhost'],
      usages: ['serverAuth'],
      issuer,
      notBefore: new Date(Date.now() - 86_400_000),
      notAfter: new Date(Date.now() + 86_400_000),
    });
  const childPair = certificate(childCA);
  const child = createTlsServer({ cert: childPair.cert, key: childPair.key }, options.child);
  child.keepAliveTimeout = 90_000;
  if (options.onChildUpgrade) child.on('upgrade', options.onChildUpgrade);
  const childPort = await listening(child);

  let cluster: SocketCluster | undefined = {
    id,
    name: 'edge',
    namespace: 'edge',
    apiserverURL: undefined,
    childCA: undefined,
    childInsecure: false,
    credentialIDs: undefined,
  };
  let decide: (user: UserInfo, verb: string, subresource: string, name: string) => boolean = () => true;
  const changed = new Set<(id: string) => void>();
  const directory = tunnelDirectory();
  const errors: unknown[] = [];
  const room = socketRoom({
    directory,
    clusters: {
      find: (asked) => (asked === id ? cluster : undefined),
      synced: () => true,
      onChange: (listener) => void changed.add(listener),
      opened: () => undefined,
      takenOver: () => undefined,
    },
    peers: { find: () => undefined, connection: () => undefined, lastEnd: () => undefined, replicas: () => 1 },
    stillAllowed: async ({ user }, info) => decide(user, info.verb, info.subresource, info.name),
    limits: options.limits ?? { perUser: 2_000, perCluster: 2_000 },
    attach: { identity: 'hub-0', perSecond: 1_000 },
    registry: new Registry(),
    toStatus: (error) => toStatusError(error, (_id, cause) => errors.push(cause)),
    upgraded: () => undefined,
    closing: lifetime.signal,
    signal: lifetime.signal,
    onError: (error) => errors.push(error),
  });
  const admit: Admit = async (request, info) => {
    const header = request.headers['x-test-user'];
    const user = (typeof header === 'string' ? JSON.parse(header) : { name: 'jane', uid: '', groups: [], extra: {} }) as UserInfo;
    if (!decide(user, info.verb, info.subresource, info.name)) throw forbidden({}, 'not allowed by the test');
    return { user, via: request.headers['x-test-direct'] === undefined ? 'frontProxy' : 'token' };
  };
  const hubPair = certificate(hubCA);
  const hub = createTlsServer(
    {
      cert: hubPair.cert,
      key: hubPair.key,
      shouldUpgradeCallback: (request: IncomingMessage) => isSocketPath(request.url) && room.wantsUpgrade(request),
    } as object,
    (request, response: ServerResponse) => room.serve(admit, request, response),
  );
  hub.on('upgrade', (request, socket: Duplex, head: Buffer) => room.upgrade(admit, request, socket, head));
  const hubPort = await listening(hub);

  const serve = upstreamHandler({
    child: () => ({ server: `https://127.0.0.1:${childPort}`, ca: childCA.cert, authorization: async () => 'Bearer agent-token' }),
    allowTargets: [],
    targetCA: () => undefined,
    allowIdentities: [],
    agentAPI: (stream) => stream.respond({ ':status': 200 }, { endStream: true }),
    registry: new Registry(),
    onError: (error) => errors.push(error),
    ...options.upstream,
  });
  const tunnels: AgentTunnel[] = [];
  const attach = ({ instance = 'one', have = '' }: { instance?: string; have?: string } = {}) =>
    new Promise<AgentTunnel>((resolve, reject) => {
      const request = httpsRequest({
        port: hubPort,
        host: '127.0.0.1',
        ca: hubCA.cert,
        agent: false,
        method: 'POST',
        path: attachPath(id),
        headers: {
          connection: 'Upgrade',
          upgrade: UPGRADE_TOKEN,
          [ATTACH_HEADERS.instance]: instance,
          [ATTACH_HEADERS.version]: '1',
          [ATTACH_HEADERS.have]: have,
        },
      });
      request.on('upgrade', (_response, socket, head) => {
        const tunnel = acceptTunnel(socket, head, { serve, onError: (error) => errors.push(error) });
        tunnels.push(tunnel);
        resolve(tunnel);
      });
      request.on('response', (response) => {
        response.resume();
        reject(new Error(`attach was answered ${response.statusCode}`));
      });
      request.on('error', reject);
      request.end();
    });
  await attach();
  const { waitUntil } = await import('./wait-until.ts');
  await waitUntil(() => directory.find(id) !== undefined, 'the tunnel to be in the directory');
  return {
    id,
    hubPort,
    hubCA: hubCA.cert,
    room,
    child,
    childPort,
    tunnel: () => {
      const last = tunnels.at(-1);
      if (!last) throw new Error('no tunnel');
      return last;
    },
    serve,
    attach,
    direct: (path) => `/apis/proxies.clusternet.io/v1alpha1/sockets/${id}/proxy/direct${path}`,
    setCluster(next) {
      cluster = next;
      for (const listener of changed) listener(id);
    },
    allow(next) {
      decide = next;
    },
    async close() {
      lifetime.abort();
      for (const tunnel of tunnels) tunnel.leave();
      for (const server of [hub, child]) {
        server.closeAllConnections();
        await new Promise<void>((resolve) => server.close(() => resolve()));
      }
      await room.drain(0, Promise.resolve());
      const unexpected = errors.filter((error) => !(error instanceof Error && error.name === 'AbortError'));
      if (unexpected.length > 0) throw new AggregateError(unexpected, 'errors that nobody foresaw');
    },
  };
}

/** A client of the hub that keeps its connections. */
export const hubAgent = (pair: SocketPair, keepAlive = true): Agent => new Agent({ keepAlive, ca: pair.hubCA });
