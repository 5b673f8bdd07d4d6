import type { IncomingMessage, ServerResponse } from 'node:http';
import { type Duplex, Writable } from 'node:stream';
import type { Registry } from 'prom-client';
import { badRequest, methodNotAllowed, type StatusError } from '../../kube/status.ts';
import { encodeCaller } from '../../tunnel/caller.ts';
import { announcesBody, endToEnd } from '../../tunnel/headers.ts';
import { joinStreams } from '../../tunnel/join.ts';
import { UPGRADE_TOKEN } from '../../tunnel/protocol.ts';
import type { RequestHead, UpgradeAnswer } from '../../tunnel/upstream.ts';
import type { ResourceInfo } from '../http/resource.ts';
import { respondError } from '../http/respond.ts';
import { answerHeaders, answerRequest, redirectError } from './answer-request.ts';
import { type AttachSettings, attachments, type TunnelEvent } from './attach.ts';
import type { SocketCluster, SocketClusters } from './clusters.ts';
import { findCluster, findUpstream, type PeerTunnels } from './find-upstream.ts';
import type { Admit, Admitted, StillAllowed } from './gate.ts';
import { type SocketLimits, socketLimiter } from './limits.ts';
import { socketMetrics } from './metrics.ts';
import { callerInChild, outgoingHeaders } from './outgoing.ts';
import { endSoon, refuseUpgrade, writeHead } from './raw-answer.ts';
import { parseSocketPath, type SocketRequest, socketInfo } from './socket-path.ts';
import { standing, TUNNEL_LOOK_MS } from './standing.ts';
import type { Telling } from './takeover.ts';
import { targetFailure } from './target-failure.ts';
import type { TunnelDirectory } from './tunnel-directory.ts';

export type SocketRoomOptions = {
  directory: TunnelDirectory;
  clusters: SocketClusters;
  peers: PeerTunnels & { replicas(): number } & Telling;
  stillAllowed: StillAllowed;
  limits: SocketLimits;
  attach: AttachSettings;
  registry: Registry;
  /** Any error as a Status; what nobody foresaw is logged with an id. */
  toStatus: (error: unknown) => StatusError;
  /** What an upgrade was answered with, for the audit log. */
  upgraded: (request: IncomingMessage, code: number) => void;
  onTunnel?: (event: TunnelEvent) => void;
  /** Aborted when requests without an end have to end. */
  closing: AbortSignal;
  signal: AbortSignal;
  onError: (error: unknown) => void;
};

export type SocketRoom = {
  serve(admit: Admit, request: IncomingMessage, response: ServerResponse): void;
  /** Whether Node shall hand the connection of this request over. */
  wantsUpgrade(request: IncomingMessage): boolean;
  upgrade(admit: Admit, request: IncomingMessage, socket: Duplex, head: Buffer): void;
  /** Moves the tunnels of this replica away; resolves when none has a request left, or after `graceMs`. `served` resolves when no caller can ask here any more. */
  drain(graceMs: number, served: Promise<void>): Promise<void>;
};

/** The request path from an operator, or an agent, to a child cluster. */
export function socketRoom(options: SocketRoomOptions): SocketRoom {
  const { directory, clusters, peers, toStatus } = options;
  const limiter = socketLimiter(options.limits);
  const metrics = socketMetrics(options.registry, directory);
  const stand = standing(options.stillAllowed, options.signal, options.onError);
  /** What has to end when the hub does. A listener of the signal for each request would cost more than the rest of its bookkeeping. */
  const open = new Set<() => void>();
  options.closing.addEventListener('abort', () => {
    for (const cut of [...open]) cut();
  });
  const standTunnels = standing(options.stillAllowed, options.signal, options.onError, TUNNEL_LOOK_MS);
  const attach = attachments({ ...options, stand: standTunnels, metrics });

  /** What both kinds of proxied requests have in common. The result of `enter` must be called at the end. */
  async function prepare(admit: Admit, request: IncomingMessage, isUpgrade: boolean) {
    const url = request.url ?? '';
    const asked = parseSocketPath(url);
    const info = socketInfo(request.method ?? 'GET', url, asked, isUpgrade);
    const admitted = await admit(request, info);
    const cluster = findCluster(clusters, asked.id);
    return { asked, info, admitted, cluster };
  }

  function headFor(request: IncomingMessage, asked: SocketRequest & { kind: 'proxy' }, { user, via }: Admitted): RequestHead {
    const viaFrontProxy = via === 'frontProxy';
    if (!viaFrontProxy && asksToImpersonate(request)) {
      throw badRequest(
        "impersonation is decided by the parent's API server: send requests with Impersonate-* headers through it, not to the hub itself",
      );
    }
    const headers = outgoingHeaders(request.rawHeaders, { viaFrontProxy, peer: request.socket.remoteAddress });
    headers.push(...encodeCaller(callerInChild(user)));
    return {
      method: request.method ?? 'GET',
      scheme: asked.scheme === 'http' ? 'http' : 'https',
      authority: asked.authority,
      path: asked.path,
      headers,
    };
  }

  async function proxy(admit: Admit, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { asked, info, admitted, cluster } = await prepare(admit, request, false);
    if (asked.kind === 'attach') throw methodNotAllowed(`${request.method} without Upgrade: ${UPGRADE_TOKEN}`);
    if (asked.kind === 'socket')
      throw badRequest('a socket is opened by an agent with Upgrade: websocket; requests go to its subresource proxy');
    const upstream = await findUpstream(cluster, directory, peers);
    // Nobody waits any more, and its close, which ends what begins here, has been.
    if (response.destroyed) return;
    const head = headFor(request, asked, admitted);
    const leave = limiter.enter(admitted.user.name, cluster.id);
    const began = performance.now();
    metrics.open.inc({ kind: 'request' });
    let abort = () => {};
    const answer = answerRequest(request, response, admitted.via === 'frontProxy', () => abort());
    const { head: onHead } = answer;
    answer.head = (code, headers) => {
      metrics.answered((performance.now() - began) / 1_000);
      return onHead(code, headers);
    };
    const cut = () => response.destroy();
    const forget = stand.watch(admitted, info, cut);
    open.add(cut);
    response.once('close', () => {
      open.delete(cut);
      forget();
      leave();
      metrics.open.dec({ kind: 'request' });
      metrics.ended('request', response.headersSent ? response.statusCode : 0);
      if (!response.writableFinished) abort();
    });
    const body = announcesBody(request.rawHeaders) ? { stream: request, trailers: () => endToEnd(request.rawTrailers) } : undefined;
    const exchange = upstream.exchange(head, body, answer);
    abort = exchange.abort;
    if (response.destroyed) abort();
  }

  async function proxyUpgrade(admit: Admit, request: IncomingMessage, socket: Duplex, first: Buffer): Promise<void> {
    const { asked, info, admitted, cluster } = await prepare(admit, request, true);
    if (asked.kind === 'attach') return await attach.fairlead(request, socket, first, { cluster, info, admitted });
    if (asked.kind === 'socket') return await attach.clusternet(request, socket, first, { cluster, info, admitted });
    const upstream = await findUpstream(cluster, directory, peers);
    if (socket.destroyed) return;
    const head = headFor(request, asked, admitted);
    const leave = limiter.enter(admitted.user.name, cluster.id);
    carry(request, socket, first, {
      info,
      admitted,
      cluster,
      leave,
      begin: (answer) => upstream.upgrade(head, request.headers.upgrade ?? '', answer),
    });
  }

  function carry(
    request: IncomingMessage,
    socket: Duplex,
    first: Buffer,
    {
      info,
      admitted,
      leave,
      begin,
    }: {
      info: ResourceInfo;
      admitted: Admitted;
      cluster: SocketCluster;
      leave: () => void;
      begin: (answer: UpgradeAnswer) => { abort(): void };
    },
  ): void {
    const cut = () => socket.destroy();
    const forget = stand.watch(admitted, info, cut);
    open.add(cut);
    metrics.open.inc({ kind: 'upgrade' });
    let code = 0;
    let abort = () => {};
    let switched = false;
    socket.once('close', () => {
      open.delete(cut);
      forget();
      leave();
      metrics.open.dec({ kind: 'upgrade' });
      metrics.ended('upgrade', code);
      if (!switched) abort();
    });
    const tell = (which: number) => {
      code = which;
      options.upgraded(request, which);
    };
    const exchange = begin({
      head(which, headers) {
        const error = redirectError(which, headers);
        tell(error ? error.status.code : which);
        if (error) {
          refuseUpgrade(socket, error);
          abort();
          // What still comes of the target's own words must not be written behind the Status.
          return new Writable({ write: (_chunk, _encoding, done) => done() });
        } else {
          // Refused: the answer is passed on with its body, and the connection ends. What the client sent meanwhile goes nowhere.
          writeHead(socket, which, [...withoutLength(answerHeaders(headers, admitted.via === 'frontProxy')), 'connection', 'close']);
          endSoon(socket);
        }
        return socket;
      },
      trailers: () => undefined,
      switched(headers, stream) {
        if (socket.destroyed) {
          stream.destroy();
          return;
        }
        switched = true;
        tell(101);
        writeHead(socket, 101, [
          ...answerHeaders(headers, admitted.via === 'frontProxy'),
          'connection',
          'Upgrade',
          'upgrade',
          request.headers.upgrade ?? '',
        ]);
        if (first.length > 0) socket.unshift(first);
        joinStreams(socket, stream);
      },
      fail(error) {
        const failure = targetFailure(error);
        if (code !== 0) {
          socket.destroy();
          return;
        }
        tell(failure.status.code);
        refuseUpgrade(socket, failure);
      },
    });
    abort = exchange.abort;
    if (socket.destroyed) abort();
  }

  return {
    drain: attach.drain,
    serve(admit, request, response) {
      proxy(admit, request, response).catch((error: unknown) => {
        if (!response.destroyed) respondError(request, response, toStatus(error));
      });
    },
    wantsUpgrade: (request) => !/^h2c$/i.test(request.headers.upgrade ?? 'h2c'),
    upgrade(admit, request, socket, head) {
      socket.on('error', () => socket.destroy());
      proxyUpgrade(admit, request, socket, head).catch((error: unknown) => {
        const status = toStatus(error);
        if (isAgents(request.url)) metrics.attached('refused');
        options.upgraded(request, status.status.code);
        refuseUpgrade(socket, status);
      });
    },
  };
}

/** Whether an agent's tunnel was asked for. */
function isAgents(url: string | undefined): boolean {
  try {
    return parseSocketPath(url ?? '').kind !== 'proxy';
  } catch {
    return false;
  }
}

const asksToImpersonate = (request: IncomingMessage) =>
  request.rawHeaders.some((name, at) => at % 2 === 0 && name.toLowerCase().startsWith('impersonate-'));

/** The body's end is the connection's end. */
function withoutLength(headers: readonly string[]): string[] {
  const kept: string[] = [];
  for (let at = 0; at + 1 < headers.length; at += 2) {
    if (headers[at] !== 'content-length' && headers[at] !== 'trailer') kept.push(headers[at] ?? '', headers[at + 1] ?? '');
  }
  return kept;
}
