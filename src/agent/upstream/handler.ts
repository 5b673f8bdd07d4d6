import { createHash } from 'node:crypto';
import { isIP, type Socket } from 'node:net';
import { Counter, Histogram } from 'prom-client';
import { type Caller, decodeCaller } from '../../tunnel/caller.ts';
import { AGENT_AUTHORITY, DIRECT_AUTHORITY } from '../../tunnel/protocol.ts';
import { refuseStream, serveStream } from '../../tunnel/serve-stream.ts';
import type { StreamHandler } from '../../tunnel/session.ts';
import { parseTarget } from '../../tunnel/target.ts';
import { TargetError } from '../../tunnel/target-error.ts';
import type { TargetPools } from '../../tunnel/target-pools.ts';
import type { Route } from '../../tunnel/target-route.ts';
import type { Answer, RequestHead, UpgradeAnswer, Upstream } from '../../tunnel/upstream.ts';
import { withoutWithheld } from '../../tunnel/withheld.ts';
import { allowedAddresses, dial, dialTLS, targetTrust } from './dial.ts';
import { impersonation } from './identity.ts';
import type { ChildConnection, UpstreamOptions } from './settings.ts';
import { unforeseen } from './unforeseen.ts';

/** Where a request goes and what the target gets to see of it. */
type Plan = { route: Route; head: RequestHead; kind: 'direct' | 'target' };

/** Answers the requests that come through a tunnel: decides whether a target may be reached, as whom, and carries the request there. */
export function upstreamHandler(options: UpstreamOptions): StreamHandler {
  // The client of HTTP is large: a machine without a cluster never loads it.
  let pools: TargetPools | undefined;
  let loading: Promise<TargetPools> | undefined;
  const metrics = upstreamMetrics(options);
  const explained = unforeseen(options.onError);

  async function ready(head: RequestHead): Promise<Plan & { pools: TargetPools }> {
    try {
      const planned = await plan(head);
      loading ??= import('../../tunnel/target-pools.ts').then(({ targetPools }) => targetPools());
      pools ??= await loading;
      return { ...planned, pools };
    } catch (error) {
      throw explained(error);
    }
  }

  async function plan(head: RequestHead): Promise<Plan> {
    const caller = callerOf(head);
    const headers = withoutWithheld(head.headers);
    if (head.authority === DIRECT_AUTHORITY) {
      const child = options.child();
      if (!child) throw new TargetError(503, 'there is no cluster on this machine yet');
      return { kind: 'direct', ...(await toChild(child, caller, head, headers, options)) };
    }
    const child = options.child();
    const target = parseTarget(head.scheme, head.authority);
    // The own API server by its address is the same as `direct`: always allowed, with the same credentials.
    if (child && isSame(child, target)) return { kind: 'direct', ...(await toChild(child, caller, head, headers, options)) };
    const name = `${target.scheme}://${head.authority}`;
    const addresses = await allowedAddresses(target, options.allowTargets);
    const credential = clientPair(caller);
    const route: Route = {
      // Name servers turn the order round: it makes no other route.
      key: `${target.scheme}|${target.host}|${target.port}|${addresses.toSorted()}|${credential ? digest(`${credential.cert}\n${credential.key}`) : ''}`,
      name,
      connect: () =>
        told(options, name, () => {
          if (target.scheme === 'http') return dial(name, addresses, target.port);
          const servername = isIP(target.host) ? '' : target.host;
          return dialTLS(name, addresses, target.port, { servername, ...targetTrust(options.targetCA(), credential) });
        }),
    };
    const authorization = caller.credential && 'token' in caller.credential ? ['authorization', `Bearer ${caller.credential.token}`] : [];
    return { kind: 'target', route, head: { ...head, headers: ['host', head.authority, ...headers, ...authorization] } };
  }

  const upstream: Upstream = {
    exchange(head, body, answer) {
      const observed = metrics.observe(head, answer);
      return late(head, ready, observed, (planned) => planned.pools.exchange(planned.route, planned.head, body, observed));
    },
    upgrade(head, protocol, answer) {
      const observed = metrics.observe(head, answer);
      return late(head, ready, observed, (planned) => planned.pools.upgrade(planned.route, planned.head, protocol, observed));
    },
  };

  return (stream, headers, rawHeaders) => {
    if (headers[':authority'] === AGENT_AUTHORITY) {
      options.agentAPI(stream, headers, rawHeaders);
      return;
    }
    try {
      serveStream(stream, headers, rawHeaders, upstream);
    } catch (error) {
      options.onError(error);
      refuseStream(stream, new TargetError(400, 'the request is malformed'));
    }
  };
}

/** An exchange whose route must be found first. Giving up before that is remembered. */
function late<A extends Answer | UpgradeAnswer, P extends Plan>(
  head: RequestHead,
  plan: (head: RequestHead) => Promise<P>,
  answer: A,
  begin: (ready: P) => { abort(): void },
): { abort(): void } {
  let running: { abort(): void } | undefined;
  let over = false;
  plan(head).then(
    (ready) => {
      if (!over) running = begin(ready);
    },
    (error: Error) => {
      if (!over) answer.fail(error);
    },
  );
  return {
    abort() {
      over = true;
      running?.abort();
    },
  };
}

function callerOf(head: RequestHead): Caller {
  try {
    return decodeCaller(head.headers);
  } catch (error) {
    // What cannot be read must not go on as somebody else.
    throw new TargetError(403, 'the caller cannot be mapped into this cluster', { cause: error });
  }
}

/** A request to the own API server: as the caller, by impersonation, or with the credential of this cluster that the caller brought. */
async function toChild(
  child: ChildConnection,
  caller: Caller,
  head: RequestHead,
  headers: readonly string[],
  options: UpstreamOptions,
): Promise<{ route: Route; head: RequestHead }> {
  const url = new URL(child.server);
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const port = Number(url.port || 443);
  const pair = clientPair(caller);
  const name = "the cluster's API server";
  let identity: string[];
  let certificate: { cert?: string; key?: string } = {};
  if (pair) [identity, certificate] = [[], pair];
  else if (caller.credential && 'token' in caller.credential) identity = ['authorization', `Bearer ${caller.credential.token}`];
  else {
    const authorization = await child.authorization();
    identity = [...(authorization ? ['authorization', authorization] : []), ...impersonation(caller, options.allowIdentities)];
    if (child.cert && child.key) certificate = { cert: child.cert, key: child.key };
  }
  const servername = child.servername ?? (isIP(host) ? '' : host);
  const route: Route = {
    key: `direct|${child.server}|${digest([child.ca, certificate.cert, certificate.key].join('\n'))}`,
    name,
    connect: () =>
      told(options, name, () =>
        dialTLS(name, [host], port, {
          servername,
          ...(child.ca && { ca: child.ca }),
          ...certificate,
        }),
      ),
  };
  return { route, head: { ...head, scheme: 'https', headers: ['host', url.host, ...headers, ...identity] } };
}

/** The last text and its digest: the material of the own cluster is the same for nearly every request. */
let last = { text: '', digest: '' };
function digest(text: string): string {
  if (last.text !== text) last = { text, digest: createHash('sha256').update(text).digest('base64') };
  return last.digest;
}

function clientPair({ credential }: Caller): { cert: string; key: string } | undefined {
  return credential && 'certificate' in credential ? { cert: credential.certificate, key: credential.privateKey } : undefined;
}

function isSame(child: ChildConnection, target: { scheme: string; host: string; port: number }): boolean {
  const url = new URL(child.server);
  return target.scheme === 'https' && url.hostname.replace(/^\[|\]$/g, '') === target.host && Number(url.port || 443) === target.port;
}

/** The same connection, told to who wants to know. */
async function told({ onConnection }: UpstreamOptions, target: string, connect: () => Promise<Socket>): Promise<Socket> {
  if (!onConnection) return await connect();
  const began = performance.now();
  const ms = () => Math.round(performance.now() - began);
  try {
    const socket = await connect();
    onConnection({ target, ...(socket.remoteAddress && { address: socket.remoteAddress }), ms: ms() });
    return socket;
  } catch (error) {
    onConnection({ target, ms: ms(), failure: error instanceof Error ? error.message : String(error) });
    throw error;
  }
}

/** The name in the headers of the tunnel; '' when they cannot be read. */
function userOf({ headers }: RequestHead): string {
  try {
    return decodeCaller(headers).name;
  } catch {
    return '';
  }
}

function upstreamMetrics({ registry, onRequest }: UpstreamOptions) {
  const labelNames = ['kind', 'code'] as const;
  const requests = new Counter({
    name: 'fairlead_agent_requests_total',
    help: 'Requests through the tunnel by what they were for (direct, target) and the HTTP status; 0: broken off.',
    labelNames,
    registers: [registry],
  });
  const heads = new Histogram({
    name: 'fairlead_agent_upstream_seconds',
    help: 'Until the head of the answer was there.',
    labelNames: ['kind'] as const,
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    registers: [registry],
  });
  return {
    /** The same answer, counted. */
    observe<A extends Answer>(head: RequestHead, answer: A): A {
      const { method, authority, path } = head;
      const kind = authority === DIRECT_AUTHORITY ? 'direct' : 'target';
      const began = performance.now();
      const count = (code: number) => {
        const ms = performance.now() - began;
        requests.inc({ kind, code: String(code) });
        heads.observe({ kind }, ms / 1_000);
        onRequest?.({ method, target: authority, path: path.replace(/\?.*$/s, ''), user: userOf(head), code, ms: Math.round(ms) });
      };
      return Object.assign(Object.create(answer) as A, {
        head(code: number, headers: readonly string[]) {
          count(code);
          return answer.head(code, headers);
        },
        switched(headers: readonly string[], stream: import('node:stream').Duplex) {
          count(101);
          if ('switched' in answer) (answer as unknown as UpgradeAnswer).switched(headers, stream);
        },
        fail(error: Error) {
          count(error instanceof TargetError ? error.code : 0);
          answer.fail(error);
        },
      });
    },
  };
}
