import { createHash } from 'node:crypto';
import { isIP } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectTLS } from 'node:tls';
import { CLUSTER_ID_LABEL } from '../../kube/clusternet.ts';
import { type Caller, decodeCaller } from '../../tunnel/caller.ts';
import { AGENT_AUTHORITY, DIRECT_AUTHORITY } from '../../tunnel/protocol.ts';
import type { DialerSession } from '../../tunnel/remotedialer/dialer.ts';
import { isSpecialAddress, isSpecialName, parseTarget, refused, type Target } from '../../tunnel/target.ts';
import { TargetError } from '../../tunnel/target-error.ts';
import { targetPools } from '../../tunnel/target-pools.ts';
import type { Route } from '../../tunnel/target-route.ts';
import type { Answer, RequestHead, Upstream } from '../../tunnel/upstream.ts';
import { withoutWithheld } from '../../tunnel/withheld.ts';
import type { SocketCluster } from './clusters.ts';

const HANDSHAKE_MS = 15_000;

/**
 * The way to a cluster whose agent is clusternet's: such an agent only dials, so the requests, the TLS in the connections and the credentials are made here. The
 * child's certificate is verified by the CA that an administrator gave. Without a credential of the child in the caller's extras the child sees nobody.
 */
export function clusternetUpstream(session: DialerSession, cluster: () => SocketCluster | undefined): Upstream {
  const pools = targetPools();
  session.ended.then(
    () => pools.close(),
    () => undefined,
  );

  function plan(head: RequestHead): { route: Route; head: RequestHead } {
    const known = cluster();
    if (!known) throw new TargetError(503, 'the cluster is not known any more');
    // Here it would be the name of a host.
    if (head.authority === AGENT_AUTHORITY) throw new TargetError(403, "the cluster's agent is clusternet's, which has no API of its own");
    const caller = decodeCaller(head.headers);
    const { target, base } = whereTo(head, known);
    const shown = `${target.scheme}://${isIP(target.host) === 6 ? `[${target.host}]` : target.host}:${target.port}`;
    const pair = clientPair(caller);
    const route: Route = {
      key: `${shown}|${createHash('sha256').update([pair?.cert, pair?.key, known.childCA, known.childInsecure].join('\n')).digest('base64')}`,
      name: shown,
      connect: async () => {
        const line = session.connect(target.host, target.port);
        return target.scheme === 'http' ? line : await secured(line, target, known, pair, shown);
      },
    };
    const authorization = caller.credential && 'token' in caller.credential ? ['authorization', `Bearer ${caller.credential.token}`] : [];
    const host = head.authority === DIRECT_AUTHORITY ? `${new URL(known.apiserverURL ?? '').host}` : head.authority;
    return {
      route,
      head: { ...head, path: base + head.path, headers: ['host', host, ...withoutWithheld(head.headers), ...authorization] },
    };
  }

  function planned<T>(head: RequestHead, answer: Answer, begin: (ready: { route: Route; head: RequestHead }) => T, nothing: T): T {
    let ready: { route: Route; head: RequestHead };
    try {
      ready = plan(head);
    } catch (error) {
      answer.fail(
        error instanceof TargetError ? error : new TargetError(403, 'the caller cannot be mapped into this cluster', { cause: error }),
      );
      return nothing;
    }
    return begin(ready);
  }
  const nothing = { abort: () => undefined };
  return {
    exchange: (head, body, answer) => planned(head, answer, (ready) => pools.exchange(ready.route, ready.head, body, answer), nothing),
    upgrade: (head, protocol, answer) =>
      planned(head, answer, (ready) => pools.upgrade(ready.route, ready.head, protocol, answer), nothing),
  };
}

/** `direct` is the API server that the agent reported, with its path; any other target must not be one of the machine's own or of its cloud's metadata. */
function whereTo(head: RequestHead, cluster: SocketCluster): { target: Target; base: string } {
  if (head.authority !== DIRECT_AUTHORITY) {
    const target = parseTarget(head.scheme, head.authority);
    if (isIP(target.host) ? isSpecialAddress(target.host) : isSpecialName(target.host))
      throw refused(head.authority, 'it is a loopback, link-local or metadata address');
    return { target, base: '' };
  }
  const url = cluster.apiserverURL !== undefined && URL.canParse(cluster.apiserverURL) ? new URL(cluster.apiserverURL) : undefined;
  if (!url)
    throw new TargetError(
      503,
      `the agent of cluster ${cluster.name} has not reported the address of its API server (status.apiserverURL) yet`,
    );
  const scheme = url.protocol === 'http:' ? 'http' : 'https';
  const host = url.hostname.replace(/^\[|\]$/g, '');
  return { target: { scheme, host, port: Number(url.port || (scheme === 'http' ? 80 : 443)) }, base: url.pathname.replace(/\/$/, '') };
}

function clientPair({ credential }: Caller): { cert: string; key: string } | undefined {
  return credential && 'certificate' in credential ? { cert: credential.certificate, key: credential.privateKey } : undefined;
}

/** TLS with the target inside of a connection of the tunnel. */
function secured(
  line: Duplex,
  target: Target,
  cluster: SocketCluster,
  pair: { cert: string; key: string } | undefined,
  shown: string,
): Promise<Duplex> {
  const socket = connectTLS({
    socket: line,
    ...(isIP(target.host) ? {} : { servername: target.host }),
    // The name to verify, when it is an address.
    host: target.host,
    ALPNProtocols: ['http/1.1'],
    minVersion: 'TLSv1.2',
    ...(cluster.childCA !== undefined && { ca: cluster.childCA }),
    ...pair,
    // Only where an administrator said so for this cluster; it shows as a condition of the ManagedCluster.
    rejectUnauthorized: !cluster.childInsecure,
  });
  return new Promise((resolve, reject) => {
    let failure: Error | undefined;
    line.once('error', (error) => {
      failure = error;
      socket.destroy(error);
    });
    const timer = setTimeout(
      () => socket.destroy(new TargetError(504, `${shown} did not answer within ${HANDSHAKE_MS / 1_000} s`)),
      HANDSHAKE_MS,
    );
    const onError = (error: Error) => {
      clearTimeout(timer);
      line.destroy();
      const cause = failure ?? error;
      reject(cause instanceof TargetError ? cause : new TargetError(502, explain(shown, cause, cluster), { cause }));
    };
    socket.once('error', onError);
    socket.once('secureConnect', () => {
      clearTimeout(timer);
      socket.off('error', onError);
      resolve(socket);
    });
  });
}

function explain(shown: string, error: Error, cluster: SocketCluster): string {
  const certificate = 'code' in error && /CERT|SELF_SIGNED|UNABLE_TO|ALTNAME/.test(String(error.code));
  const hint =
    certificate && cluster.childCA === undefined
      ? `; give the child's CA as ca.crt in a ConfigMap of the hub's namespace with the label ${CLUSTER_ID_LABEL}=${cluster.id}`
      : '';
  return `${shown} cannot be reached: ${error.message}${hint}`;
}
