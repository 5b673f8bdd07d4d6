import { Writable } from 'node:stream';
import { headerValue } from '../../../tunnel/headers.ts';
import { AGENT_ERROR_HEADER, METHOD_HEADER } from '../../../tunnel/protocol.ts';
import { TargetError } from '../../../tunnel/target-error.ts';
import type { Exchange, RawHeaders, RequestHead, UpgradeAnswer, Upstream } from '../../../tunnel/upstream.ts';
import { isMoving, MOVE_LOOK_MS } from '../moving.ts';
import type { TunnelEnd } from '../tunnel-directory.ts';
import type { PeerMetrics } from './metrics.ts';

/** On a request between replicas: the cluster whose tunnel it is for. */
export const CLUSTER_HEADER = 'fairlead-cluster';
/** Value of the agent-error header: that replica has no tunnel to the cluster, and nothing was sent on. */
export const NO_TUNNEL = 'NoTunnel';

/** Within so long after the end of a tunnel, other replicas know of it. */
const TOLD_MS = 250;

/** A replica that says that it holds a tunnel. */
export type Owner = {
  identity: string;
  upstream: Upstream;
  /** Calls `listener` once when the replica falls silent. The result takes the listener away. */
  onSilence(listener: () => void): () => void;
};

/** Headers as the other side of a hop between replicas may have them: neither ours nor one that a caller made up. */
export function withoutHopHeaders(headers: RawHeaders): string[] {
  const kept: string[] = [];
  for (let at = 0; at + 1 < headers.length; at += 2) {
    const name = (headers[at] ?? '').toLowerCase();
    if (name !== CLUSTER_HEADER && name !== METHOD_HEADER) kept.push(headers[at] ?? '', headers[at + 1] ?? '');
  }
  return kept;
}

/**
 * Carries requests for a cluster to a replica that holds its tunnel. `next` names one that is not among those that were tried. A request that certainly was not
 * sent on (the tunnel had just moved, the connection takes no more) goes to the next one; with a body only when none of the body was read. `lastEnd` is the end
 * of the cluster's last tunnel, as far as that is known: when its agent went elsewhere, the request waits for a moment to learn where.
 */
export function forwarding(
  id: string,
  next: (tried: ReadonlySet<Owner>) => Owner | undefined,
  metrics: PeerMetrics,
  lastEnd: () => TunnelEnd | undefined,
): Upstream {
  type Send = (upstream: Upstream, head: RequestHead, answer: UpgradeAnswer) => Exchange;

  function start(
    original: RequestHead,
    hasBody: boolean,
    answer: Omit<UpgradeAnswer, 'switched'> & Partial<UpgradeAnswer>,
    send: Send,
  ): Exchange {
    const head = { ...original, headers: [...withoutHopHeaders(original.headers), CLUSTER_HEADER, id] };
    const tried = new Set<Owner>();
    let abort: () => void = () => undefined;
    let over = false;
    let answered = false;
    /** When a replica said that it has no tunnel any more, in milliseconds of performance.now(); it tells how that came a moment later. */
    let refusedAt = Number.NEGATIVE_INFINITY;

    function fail(error: Error): void {
      if (over) return;
      over = true;
      if (!answered) metrics.forwarded('lost');
      answer.fail(error);
    }
    function begin(): void {
      answered = true;
      metrics.forwarded('answered');
    }

    function attempt(): void {
      const owner = next(tried);
      if (!owner) {
        const end = lastEnd();
        if (isMoving(end) || (!end && performance.now() - refusedAt < TOLD_MS)) {
          const timer = setTimeout(() => {
            if (!over) attempt();
          }, MOVE_LOOK_MS);
          abort = () => clearTimeout(timer);
          return;
        }
        // Without a word about its end: a replica said a moment ago that it held the tunnel, so it ended just now.
        const since = (end?.since ?? new Date()).toISOString();
        fail(new TargetError(503, `cluster ${id} is not connected since ${since}: its agent is away`));
        return;
      }
      tried.add(owner);
      let sent = false;
      let superseded = false;
      const release = owner.onSilence(() => {
        if (over || answered || superseded) return;
        abort();
        fail(new TargetError(503, `replica ${owner.identity}, which holds the tunnel to cluster ${id}, does not answer`));
      });
      const exchange = send(owner.upstream, head, {
        head(code, headers) {
          release();
          if (!hasBody && code === 503 && headerValue(headers, AGENT_ERROR_HEADER) === NO_TUNNEL) {
            superseded = true;
            refusedAt = performance.now();
            setImmediate(() => {
              exchange.abort();
              if (!over) attempt();
            });
            return discard();
          }
          begin();
          return answer.head(code, headers);
        },
        trailers: (headers) => {
          if (!superseded) answer.trailers(headers);
        },
        switched(headers, stream) {
          release();
          begin();
          if (answer.switched) answer.switched(headers, stream);
          else stream.destroy();
        },
        fail(error) {
          release();
          if (superseded) return;
          // Before `send` returned, nothing had left.
          if (!sent && !over) {
            superseded = true;
            attempt();
          } else fail(error);
        },
      });
      sent = true;
      if (superseded) return;
      abort = () => {
        release();
        exchange.abort();
      };
    }

    attempt();
    return {
      abort() {
        if (over) return;
        over = true;
        if (!answered) metrics.forwarded('cancelled');
        abort();
      },
    };
  }

  return {
    exchange: (head, body, answer) =>
      start(head, body !== undefined, answer, (upstream, sent, inner) => upstream.exchange(sent, body, inner)),
    upgrade: (head, protocol, answer) => start(head, false, answer, (upstream, sent, inner) => upstream.upgrade(sent, protocol, inner)),
  };
}

const discard = () => new Writable({ write: (_chunk, _encoding, done) => done() });
