import { randomUUID } from 'node:crypto';
import type { Logger } from 'pino';
import { VERSION } from '../kube/version.ts';
import type { StreamHandler } from '../tunnel/session.ts';
import type { AgentMetrics } from './api/metrics.ts';
import type { Child } from './child/child.ts';
import { keepReporting } from './heartbeat/heartbeat.ts';
import type { Options } from './options.ts';
import { parentConnection } from './parent/parent.ts';
import { bootstrapToken } from './registration/bootstrap-token.ts';
import { keepRegistered } from './registration/registration.ts';
import type { Credential, Store } from './registration/store.ts';
import { clusternetConnect, keepClusternetSession } from './tunnel/clusternet-keeper.ts';
import { keepTunnels, type TunnelEvent } from './tunnel/keeper.ts';

/** What the agent does for its cluster while it is the one that stands for it: registration, tunnels and heartbeat. */
export type Session = {
  credential(): Credential | undefined;
  roundTripMs(): number | undefined;
  /** What is missing, in words; undefined when requests can come. */
  unready(): string | undefined;
  stop(withinMs: number): Promise<void>;
};

/** Starts all of it; nothing here throws later, troubles are logged and waited out. */
export function startSession(given: {
  options: Options;
  clusterId: string;
  store: Store;
  child: Child;
  serve: StreamHandler;
  metrics: AgentMetrics;
  log: Logger;
  /** See KeeperOptions. */
  mayReturn?: (signal: AbortSignal) => Promise<boolean>;
}): Session {
  const { options, clusterId, store, child, serve, metrics, log, mayReturn } = given;
  const lifetime = new AbortController();
  const { signal } = lifetime;
  const say = sayOnce(log);
  const onError = (error: unknown) => {
    if (!signal.aborted) say('warn', error instanceof Error ? error.message : String(error));
  };

  // Declared before what reads them: the CA that came with the registration is trusted from then on.
  const learnt = (): string | undefined => registration?.credential()?.ca || undefined;
  const parent = parentConnection(options.parent, learnt);
  const registration = keepRegistered({
    clusterId,
    cluster: options.cluster,
    parentURL: options.parent.url,
    client: (token) => parent.client(() => token),
    bootstrapToken: bootstrapToken(options.bootstrap),
    store,
    signal,
    say,
  });
  const { credential, onChange: onCredential, refused } = registration;
  const reporting = parent.client(() => credential()?.token);
  /** Another process stands for this cluster, and it is its status that counts. */
  let superseded = false;
  const heartbeat = keepReporting({
    child,
    credential: () => (superseded ? undefined : credential()),
    connected: () => tunnels.count() > 0,
    onCredential,
    refused,
    parent: reporting,
    heartbeatMs: options.heartbeatMs,
    ranges: { clusterCIDR: options.clusterCIDR, serviceCIDR: options.serviceCIDR },
    signal,
    onError,
  });
  const common = {
    clusterId,
    version: `v${VERSION}`,
    credential,
    onCredential,
    refused,
    signal,
    onEvent(event: TunnelEvent) {
      metrics.tunnel(event);
      tell(event, log, say);
      if (event.kind === 'up') superseded = false;
      if (event.kind === 'down' && event.why === 'superseded') superseded = true;
      // The hub may have given the cluster up meanwhile.
      if (event.kind === 'up' && event.tunnels === 1) heartbeat.beat();
      if (event.kind === 'down' && event.tunnels === 0) heartbeat.look();
    },
    onError,
  };
  const way = options.direct ? parentConnection(options.direct, learnt) : parent;
  const tunnels =
    options.protocol === 'remotedialer'
      ? keepClusternetSession({ ...common, parent: way, connect: clusternetConnect(child, options.allowTargets) })
      : keepTunnels({ ...common, parent: way, instance: randomUUID(), tunnels: options.tunnels, serve, ...(mayReturn && { mayReturn }) });

  return {
    credential,
    roundTripMs: () => tunnels.roundTripMs(),
    unready: () => registration.waitingFor() ?? (tunnels.count() > 0 ? undefined : 'no tunnel to the hub'),
    async stop(withinMs) {
      await tunnels.stop(withinMs);
      lifetime.abort();
      await registration.ended;
      reporting.close();
    },
  };
}

function tell(event: TunnelEvent, log: Logger, say: Say): void {
  if (event.kind === 'up') log.info({ replica: event.replica, tunnels: event.tunnels }, 'tunnel open');
  else if (event.kind === 'down')
    log.info({ replica: event.replica, tunnels: event.tunnels, reason: event.why, detail: event.detail }, 'tunnel ended');
  else {
    say('warn', `tunnel: ${event.detail}`);
    // Each of them, where `say` tells the same once.
    log.debug({ detail: event.detail }, 'no tunnel');
  }
}

type Say = (level: 'info' | 'warn' | 'error', text: string) => void;

/** Logs a text, but not what was said last: attempts repeat. */
function sayOnce(log: Logger): Say {
  let last = '';
  return (level, text) => {
    if (text === last) return;
    last = text;
    log[level](text);
  };
}
