import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { badRequest, conflict, StatusError, serviceUnavailable, tooManyRequests, unauthorized } from '../../kube/status.ts';
import { ATTACH_HEADERS, ATTACHED_HEADERS, UPGRADE_TOKEN } from '../../tunnel/protocol.ts';
import { type DialerSession, dialerSession } from '../../tunnel/remotedialer/dialer.ts';
import type { MessageTransport } from '../../tunnel/remotedialer/transport.ts';
import { websocketAcceptor } from '../../tunnel/remotedialer/websocket.ts';
import { connectTunnel } from '../../tunnel/session.ts';
import { sessionUpstream } from '../../tunnel/session-upstream.ts';
import type { ResourceInfo } from '../http/resource.ts';
import { clusternetUpstream } from './clusternet.ts';
import type { SocketCluster, SocketClusters } from './clusters.ts';
import type { Admitted } from './gate.ts';
import { rateLimiter } from './limits.ts';
import type { SocketMetrics } from './metrics.ts';
import { refuseUpgrade, writeHead } from './raw-answer.ts';
import type { Standing } from './standing.ts';
import { type Telling, takeovers } from './takeover.ts';
import type { LocalTunnel, TunnelDirectory } from './tunnel-directory.ts';

export type AttachSettings = {
  /** Name of this replica; agents tell by it which replicas they have. */
  identity: string;
  /** Tunnels that may be opened in a second: after a restart a thousand agents come together. */
  perSecond: number;
};

/** A tunnel came or went, for the log. */
export type TunnelEvent = {
  event: 'opened' | 'ended';
  cluster: string;
  name: string;
  protocol: string;
  instance: string;
  agentVersion: string | undefined;
  /** Why it ended. */
  reason?: string;
};

export type AttachOptions = {
  directory: TunnelDirectory;
  clusters: SocketClusters;
  peers: { replicas(): number } & Telling;
  attach: AttachSettings;
  stand: Standing;
  metrics: SocketMetrics;
  upgraded: (request: IncomingMessage, code: number) => void;
  onTunnel?: (event: TunnelEvent) => void;
  signal: AbortSignal;
  onError: (error: unknown) => void;
};

/** An agent at the door, let in by RBAC. */
export type Arrival = { cluster: SocketCluster; info: ResourceInfo; admitted: Admitted };

/** For agents to open their tunnels elsewhere, after the requests at this replica have ended. */
const MOVE_MS = 5_000;
const GONE = 'the cluster was denied or deleted';
const CREDENTIAL_ID = 'authentication.kubernetes.io/credential-id';

/** What an agent's tunnel is made of, whatever its protocol. */
type Line = Omit<LocalTunnel, 'id' | 'instance' | 'credentialID' | 'agentVersion' | 'since' | 'rank'> & { closed: Promise<string> };

/** Opens tunnels for agents, keeps them in the directory while they live, and ends them when their right does. */
export function attachments(options: AttachOptions) {
  const { directory, clusters, metrics, stand } = options;
  const mayEnter = rateLimiter(options.attach.perSecond);
  const acceptWebsocket = websocketAcceptor();
  const takeover = takeovers(options);
  let draining = false;

  clusters.onChange((id) => {
    const cluster = clusters.find(id);
    for (const tunnel of directory.of(id)) {
      if (!cluster) tunnel.destroy(GONE);
      // The agent has a newer credential: it opens the tunnel anew with that one. One that is leaving gets nothing new anyway.
      else if (!tunnel.isClosing() && !isCurrent(cluster, tunnel.credentialID)) {
        tunnel.dismissed = true;
        tunnel.drain();
        tunnel.close();
        directory.changed(id);
      }
    }
  }, options.signal);

  /** Throws StatusError when this tunnel must not be opened here now. */
  function check(request: IncomingMessage, { cluster, admitted }: Arrival): string | undefined {
    if (draining) throw serviceUnavailable('this replica of the hub is stopping; try again', { retryAfterSeconds: 1 });
    const credentialID = admitted.user.extra[CREDENTIAL_ID]?.[0];
    if (!isCurrent(cluster, credentialID)) throw unauthorized('this credential of the cluster has been replaced by a newer one');
    const have = String(request.headers[ATTACH_HEADERS.have] ?? '').split(',');
    if (have.includes(options.attach.identity))
      throw conflict(
        { group: 'proxies.clusternet.io', kind: 'sockets', name: cluster.id },
        'this agent has a tunnel to this replica of the hub already',
      );
    if (!mayEnter()) throw tooManyRequests('too many agents connect at once; try again', 1);
    return credentialID;
  }

  function keep(
    line: Line,
    arrival: Arrival,
    what: { instance: string; agentVersion: string | undefined; credentialID: string | undefined },
    hasOthers = false,
  ): void {
    const { cluster, admitted, info } = arrival;
    const { closed, ...rest } = line;
    // Between the check and now the cluster may have gone, or its credential been replaced.
    const known = clusters.find(cluster.id);
    if (!known || !isCurrent(known, what.credentialID)) {
      rest.destroy(known ? 'this credential of the cluster has been replaced by a newer one' : GONE);
      return;
    }
    const tunnel: LocalTunnel = { id: cluster.id, since: new Date(), rank: takeover.rank(cluster.id), ...what, ...rest };
    takeover.enter(tunnel, hasOthers);
    directory.add(tunnel);
    const forget = stand.watch(admitted, info, () => tunnel.destroy('the right to open this socket was taken away'));
    clusters.opened(cluster.id, what.credentialID);
    const { protocol, instance, agentVersion } = tunnel;
    const told = { cluster: cluster.id, name: cluster.name, protocol, instance, agentVersion };
    options.onTunnel?.({ event: 'opened', ...told });
    closed
      .then((reason) => {
        forget();
        directory.remove(tunnel);
        options.onTunnel?.({ event: 'ended', ...told, reason });
      })
      .catch(options.onError);
  }

  const answered = () => [ATTACHED_HEADERS.replica, options.attach.identity, ATTACHED_HEADERS.replicas, String(options.peers.replicas())];

  return {
    check,
    keep,
    /** `sockets/<id>/attach`: our agent. Rejects with StatusError when it is not let in, and nothing has been answered. */
    async fairlead(request: IncomingMessage, socket: Duplex, head: Buffer, arrival: Arrival): Promise<void> {
      if (request.method !== 'POST' || request.headers.upgrade !== UPGRADE_TOKEN)
        throw badRequest(`a tunnel is opened by POST with Upgrade: ${UPGRADE_TOKEN}`);
      let credentialID: string | undefined;
      try {
        credentialID = check(request, arrival);
      } catch (error) {
        if (!(error instanceof StatusError) || error.status.code !== 409) throw error;
        metrics.attached('duplicate');
        options.upgraded(request, 409);
        refuseUpgrade(socket, error, answered());
        return;
      }
      options.upgraded(request, 101);
      await switchTo(socket, ['connection', 'Upgrade', 'upgrade', UPGRADE_TOKEN, ...answered()]);
      if (socket.destroyed) return;
      metrics.attached('ok');
      const tunnel = connectTunnel(socket, head);
      tunnel.onDraining(() => directory.changed(arrival.cluster.id));
      const { closed, roundTripMs, heard, isDraining, isClosing, hasLeft, drain, close, destroy } = tunnel;
      const upstream = sessionUpstream(tunnel, `cluster ${arrival.cluster.name}`);
      keep(
        { protocol: 'fairlead', upstream, closed, roundTripMs, heard, isDraining, isClosing, hasLeft, drain, close, destroy },
        arrival,
        {
          instance: String(request.headers[ATTACH_HEADERS.instance] ?? '').slice(0, 64),
          agentVersion: String(request.headers[ATTACH_HEADERS.version] ?? '').slice(0, 64) || undefined,
          credentialID,
        },
        Boolean(request.headers[ATTACH_HEADERS.have]),
      );
    },
    /** `sockets/<id>` with WebSocket: a clusternet agent. Rejects as `fairlead` does. */
    async clusternet(request: IncomingMessage, socket: Duplex, head: Buffer, arrival: Arrival): Promise<void> {
      if (!/^websocket$/i.test(request.headers.upgrade ?? '')) throw badRequest('a socket is opened by an agent with Upgrade: websocket');
      const credentialID = check(request, arrival);
      const { cluster } = arrival;
      let refusal: Error | undefined;
      const refused = (error: Error) => {
        refusal = error;
      };
      const accepted = (transport: MessageTransport) => {
        options.upgraded(request, 101);
        metrics.attached('ok');
        const session = dialerSession(transport);
        let draining = false;
        const close = () => {
          if (draining) return;
          // The protocol has no word for going elsewhere: such an agent comes back by itself when the session ends.
          draining = true;
          directory.changed(cluster.id);
          endWhenIdle(session);
        };
        keep(
          {
            protocol: 'clusternet',
            upstream: clusternetUpstream(session, () => clusters.find(cluster.id)),
            closed: session.ended.then((error) => error.message),
            roundTripMs: session.roundTripMs,
            heard: () => performance.now() - (Date.now() - session.lastHeard().getTime()),
            isDraining: () => draining,
            isClosing: () => false,
            hasLeft: () => false,
            drain: close,
            close,
            destroy: (reason) => session.end(reason),
          },
          arrival,
          { instance: '', agentVersion: undefined, credentialID },
        );
      };
      acceptWebsocket(request, socket, head, accepted, refused);
      if (refusal) throw badRequest(`this is no WebSocket handshake: ${refusal.message}`);
    },
    async drain(graceMs: number, served: Promise<void>): Promise<void> {
      draining = true;
      for (const tunnel of directory.local()) tunnel.drain();
      const until = performance.now() + graceMs;
      const isEmpty = () => directory.local().next().done === true;
      const emptyBy = async (end: number) => {
        while (performance.now() < end && !isEmpty()) await sleep(50);
      };
      await Promise.race([emptyBy(until), served]);
      // Nobody asks here any more. What another replica asks can go on until the agent has found that one.
      if (options.peers.replicas() > 1) await emptyBy(Math.min(until, performance.now() + MOVE_MS));
      for (const tunnel of directory.local()) tunnel.close();
      await emptyBy(until);
      for (const tunnel of [...directory.local()]) tunnel.destroy('the hub is stopping');
    },
  };
}

/** Whether a tunnel may be opened with this credential: any, as long as none was ever recorded for the cluster. */
const isCurrent = (cluster: SocketCluster, credentialID: string | undefined) =>
  cluster.credentialIDs === undefined || (credentialID !== undefined && cluster.credentialIDs.includes(credentialID));

/** Sends 101 and resolves when HTTP/2 may begin: Node aborts when that happens inside of the write. */
async function switchTo(socket: Duplex, headers: readonly string[]): Promise<void> {
  await new Promise<void>((resolve) => {
    socket.once('close', () => resolve());
    writeHead(socket, 101, headers);
    socket.write('', () => setImmediate(resolve));
  });
}

/** Ends a session as soon as it carries nothing: kept connections count until they are let go. */
function endWhenIdle(session: DialerSession): void {
  const look = setInterval(() => {
    if (session.connections() === 0) session.end('the hub moves this tunnel');
  }, 200);
  const stop = () => clearInterval(look);
  session.ended.then(stop, stop);
}
