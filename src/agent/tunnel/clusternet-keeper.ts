import { setTimeout as sleep } from 'node:timers/promises';
import { remotedialerPath, serveRemotedialer } from '../../tunnel/remotedialer/agent.ts';
import type { Connect } from '../../tunnel/remotedialer/listener.ts';
import type { Session } from '../../tunnel/remotedialer/session.ts';
import { HandshakeError } from '../../tunnel/remotedialer/websocket-client.ts';
import { parseTarget } from '../../tunnel/target.ts';
import { backoff } from '../backoff.ts';
import type { Child } from '../child/child.ts';
import { allowedAddresses, dial } from '../upstream/dial.ts';
import type { TargetPattern } from '../upstream/settings.ts';
import type { Keeper, KeeperOptions } from './keeper.ts';

const TIMING = { retryMs: 200, longestRetryMs: 30_000 };
/** How often a session is asked whether its last connection has ended, while it is stopped. */
const LOOK_MS = 50;

export type ClusternetKeeperOptions = Pick<
  KeeperOptions,
  'parent' | 'clusterId' | 'version' | 'credential' | 'onCredential' | 'refused' | 'signal' | 'onEvent' | 'onError'
> & { connect: Connect; timing?: Partial<typeof TIMING> };

/** Keeps one session with a clusternet hub open, which asks for no more. The hub brings its own credentials for what it reaches. */
export function keepClusternetSession(options: ClusternetKeeperOptions): Keeper {
  const { parent, clusterId, credential, onEvent } = options;
  const timing = { ...TIMING, ...options.timing };
  const stopped = new AbortController();
  const signal = AbortSignal.any([options.signal, stopped.signal]);
  const url = new URL(parent.url.pathname.replace(/\/$/, '') + remotedialerPath(clusterId), parent.url);
  url.protocol = 'wss:';
  let session: Session | undefined;
  let wake = Promise.withResolvers<void>();
  const changed = () => {
    wake.resolve();
    wake = Promise.withResolvers<void>();
  };

  async function once(token: string): Promise<void> {
    // Not the signal of the process: a session that is stopped lets its connections end first.
    const cut = new AbortController();
    const giveUp = () => cut.abort(new Error('given up'));
    signal.addEventListener('abort', giveUp, { once: true });
    try {
      session = await serveRemotedialer({
        url,
        open: (until) => parent.open(until),
        token: () => token,
        userAgent: `fairlead-agent/${options.version}`,
        connect: options.connect,
        signal: cut.signal,
      });
    } finally {
      signal.removeEventListener('abort', giveUp);
    }
    const open = session;
    onEvent({ kind: 'up', replica: '', tunnels: 1 });
    let over = false;
    const ended = open.ended.then((error) => {
      over = true;
      return error.message;
    });
    while (!over && !signal.aborted && credential()) await Promise.race([ended, wake.promise]);
    if (!over && !signal.aborted) open.end('not registered any more');
    if (!over && signal.aborted) return;
    const detail = await ended;
    session = undefined;
    onEvent({ kind: 'down', replica: '', tunnels: 0, why: credential() ? 'lost' : 'unregistered', detail });
  }

  async function run(): Promise<void> {
    const retry = backoff(timing.retryMs, timing.longestRetryMs);
    while (!signal.aborted) {
      const now = credential();
      if (!now) {
        await wake.promise;
        continue;
      }
      const began = performance.now();
      try {
        await once(now.token);
      } catch (error) {
        if (signal.aborted) return;
        onEvent({ kind: 'failed', detail: error instanceof Error ? error.message : String(error) });
        if (error instanceof HandshakeError && (error.status === 401 || error.status === 403)) options.refused(now);
      }
      if (performance.now() - began > timing.longestRetryMs) retry.reset();
      await retry.pause(signal);
    }
  }

  options.onCredential(changed, signal);
  signal.addEventListener('abort', changed, { once: true });
  const running = run().catch(options.onError);
  return {
    count: () => (session ? 1 : 0),
    roundTripMs: () => session?.roundTripMs(),
    async stop(withinMs) {
      stopped.abort();
      await running;
      const open = session;
      session = undefined;
      if (!open) return;
      // The protocol knows no GOAWAY: the hub goes on asking until the session ends.
      const until = performance.now() + withinMs;
      while (open.connections() > 0 && performance.now() < until) await sleep(LOOK_MS);
      open.end('the agent stops');
      const { message } = await open.ended;
      onEvent({ kind: 'down', replica: '', tunnels: 0, why: 'stopping', detail: message });
    },
  };
}

/** Connects for a clusternet hub: to the own API server, or to what the list allows. Throws TargetError. */
export function clusternetConnect(child: Child, allowTargets: readonly TargetPattern[]): Connect {
  return async ({ host, port }, signal) => {
    const target = parseTarget('http', `${host.includes(':') ? `[${host}]` : host}:${port}`);
    const own = child.connection();
    const server = own ? new URL(own.server) : undefined;
    const isOwn = server?.hostname.replace(/^\[|\]$/g, '') === target.host && Number(server.port || 443) === port;
    const name = `${host}:${port}`;
    const socket = await dial(name, isOwn ? [target.host] : await allowedAddresses(target, allowTargets), port);
    if (signal.aborted) socket.destroy();
    return socket;
  };
}
