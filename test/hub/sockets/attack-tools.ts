import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http2';
import { createServer, type Server } from 'node:https';
import type { Socket } from 'node:net';
import { duplexPair } from 'node:stream';
import { connect as connectTLS, type TLSSocket } from 'node:tls';
import type { AuditEntry } from '../../../src/hub/audit/entry.ts';
import { auditRequests } from '../../../src/hub/audit/middleware.ts';
import { auditSubject } from '../../../src/hub/audit/subject.ts';
import type { Caller } from '../../../src/hub/auth/caller.ts';
import { toStatusError } from '../../../src/hub/http/errors.ts';
import type { RequestInfo } from '../../../src/hub/http/resource.ts';
import { respondError } from '../../../src/hub/http/respond.ts';
import { socketEntrances } from '../../../src/hub/socket-entrances.ts';
import { forbidden, pathNotFound } from '../../../src/kube/status.ts';
import { acceptTunnel, connectTunnel } from '../../../src/tunnel/session.ts';
import { listening, type SocketPair } from '../../support/socket-pair.ts';
import { makeCa, makeServer } from '../auth/pki.ts';

/** An answer as its bytes were: nothing is normalised on the way. */
export type RawAnswer = { code: number; head: string; body: string; text: string };

/** A TLS client that sends bytes as they are. */
export type RawClient = {
  socket: TLSSocket;
  /** What came so far. */
  text(): string;
  write(bytes: string): void;
  /** Resolves with everything that came when the server has closed the connection; rejects when it does not within `ms`. */
  closed(ms?: number): Promise<RawAnswer>;
  destroy(): void;
};

export async function rawClient(port: number, ca: string): Promise<RawClient> {
  const socket = connectTLS({ host: '127.0.0.1', port, ca, ALPNProtocols: ['http/1.1'] });
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  await new Promise<void>((resolve, reject) => {
    socket.once('secureConnect', resolve);
    socket.once('error', reject);
  });
  // A server that ends the connection while it is being written to.
  socket.on('error', () => undefined);
  const text = () => Buffer.concat(chunks).toString('latin1');
  return {
    socket,
    text,
    write: (bytes) => void socket.write(Buffer.from(bytes, 'latin1')),
    destroy: () => void socket.destroy(),
    async closed(ms = 10_000) {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<never>((_resolve, reject) => {
        timer = setTimeout(() => reject(new Error(`still open after ${ms} ms, with ${JSON.stringify(text().slice(0, 300))}`)), ms);
      });
      await Promise.race([closed, late]).finally(() => {
        clearTimeout(timer);
        socket.destroy();
      });
      return readAnswer(text());
    },
  };
}

export function readAnswer(text: string): RawAnswer {
  const end = text.indexOf('\r\n\r\n');
  const head = end < 0 ? text : text.slice(0, end);
  return { code: Number(/^HTTP\/1\.1 ([0-9]{3})/.exec(head)?.[1] ?? 0), head, body: end < 0 ? '' : text.slice(end + 4), text };
}

/** Lines of a request; the last two ends of line are added. */
export const requestText = (line: string, headers: readonly string[] = []): string =>
  `${[`${line} HTTP/1.1`, 'Host: hub', ...headers].join('\r\n')}\r\n\r\n`;

/** One request on a connection of its own, which the server is asked to close. */
export async function rawRequest(port: number, ca: string, line: string, headers: readonly string[] = []): Promise<RawAnswer> {
  const client = await rawClient(port, ca);
  client.write(requestText(line, [...headers, 'Connection: close']));
  return await client.closed();
}

/** Every byte that a TLS server gets, whatever it makes of it. */
export function recordBytes(server: Server): { text(): string; open(): number; connections(): number } {
  const chunks: Buffer[] = [];
  const open = new Set<Socket>();
  let connections = 0;
  server.on('secureConnection', (socket: TLSSocket) => {
    connections++;
    open.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => open.delete(socket));
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  });
  return { text: () => Buffer.concat(chunks).toString('latin1'), open: () => open.size, connections: () => connections };
}

const IDENTITY = /^(impersonate-|x-remote-|fairlead-|clusternet-)|^(authorization|proxy-authorization)$/i;
/** The headers of a request that say who asks, as `name: value`, in the order in which they came. */
export function identityHeaders({ rawHeaders }: Pick<IncomingMessage, 'rawHeaders'>): string[] {
  const found: string[] = [];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const name = rawHeaders[at] ?? '';
    if (IDENTITY.test(name)) found.push(`${name.toLowerCase()}: ${rawHeaders[at + 1]}`);
  }
  return found;
}

/** The doors of the hub's sockets as the hub has them (audit, authorisation), in front of the sockets of a pair. */
export type Entrance = {
  port: number;
  ca: string;
  asked: Array<{ caller: Caller; info: RequestInfo }>;
  audited: AuditEntry[];
  close(): Promise<void>;
};

/** `authorize` says whether a request may pass; what was asked is kept. */
export async function entrance(
  pair: SocketPair,
  authenticate: (request: Pick<IncomingMessage, 'headers'>) => Caller,
  allowed: (info: RequestInfo) => boolean = () => true,
): Promise<Entrance> {
  const asked: Entrance['asked'] = [];
  const audited: AuditEntry[] = [];
  const auditing = auditRequests({ write: (entry) => void audited.push(entry), leaveOut: () => false });
  const doors = socketEntrances({
    sockets: pair.room,
    auditing,
    authorizer: {
      async authorize(caller, info) {
        asked.push({ caller, info });
        if (!allowed(info)) throw forbidden({}, 'not allowed by the test');
      },
    },
    auditProblem: () => undefined,
  });
  const known = async (request: Pick<IncomingMessage, 'headers'>) => authenticate(request);
  const requests = doors.requests(known, (request, response) => {
    auditSubject(request);
    respondError(
      request,
      response,
      toStatusError(pathNotFound(), () => undefined),
    );
  });
  const upgrades = doors.upgrades(known);
  const ca = makeCa('entrance-ca');
  const pairOfKeys = makeServer(ca);
  const server = createServer(
    { cert: pairOfKeys.cert, key: pairOfKeys.key, shouldUpgradeCallback: (request: IncomingMessage) => upgrades.wants(request) } as object,
    requests,
  );
  server.on('upgrade', upgrades.take);
  const port = await listening(server);
  return {
    port,
    ca: ca.cert,
    asked,
    audited,
    async close() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

/**
 * One stream straight to the agent of a pair, with these headers, as a hub would open it that is not ours. `upgrade`: an extended CONNECT; `first` is sent before an answer came.
 */
export async function agentStream(
  pair: SocketPair,
  headers: readonly string[],
  { upgrade = false, first = '', path = '/api' }: { upgrade?: boolean; first?: string; path?: string } = {},
): Promise<{ code: number; body: string }> {
  const [one, other] = duplexPair();
  acceptTunnel(other, Buffer.alloc(0), { serve: pair.serve, onError: () => undefined });
  const tunnel = connectTunnel(one, Buffer.alloc(0));
  try {
    // Extended CONNECT may be asked for when the other side has said that it knows it.
    if (!tunnel.session.remoteSettings.enableConnectProtocol) await once(tunnel.session, 'remoteSettings');
    const method = upgrade ? [':method', 'CONNECT', ':protocol', 'websocket'] : [':method', 'GET'];
    const raw = [...method, ':scheme', 'https', ':authority', 'direct', ':path', path, ...headers];
    const stream = tunnel.session.request(raw as unknown as OutgoingHttpHeaders, { endStream: !upgrade });
    // Cut together with the session at the end.
    stream.on('error', () => undefined);
    let body = '';
    stream.on('data', (chunk: Buffer) => {
      body += chunk.toString('latin1');
    });
    const ended = once(stream, 'end');
    if (first !== '') stream.write(first);
    const [answer] = (await once(stream, 'response')) as [IncomingHttpHeaders];
    if (first !== '') stream.write(first);
    await ended;
    return { code: Number(answer[':status']), body };
  } finally {
    tunnel.destroy('the test is over');
  }
}
