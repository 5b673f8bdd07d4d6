import type { Logger } from 'pino';
import type { KubeClient } from '../kube/client.ts';
import { agentApi } from './api/agent-api.ts';
import { agentAnswers } from './api/answers.ts';
import { healthServer } from './api/health-server.ts';
import { agentMetrics } from './api/metrics.ts';
import { socketServer } from './api/socket-server.ts';
import { apiStreams } from './api/stream.ts';
import { backoff } from './backoff.ts';
import { type Child, childCluster } from './child/child.ts';
import { AGENT_LEASE, clusterIdOf, machineClusterId } from './child/cluster-id.ts';
import { keepCluster } from './cluster-lifecycle.ts';
import { runAsLeader } from './leadership.ts';
import type { Options } from './options.ts';
import { fileStore } from './registration/file-store.ts';
import { secretStore } from './registration/secret-store.ts';
import type { Store } from './registration/store.ts';
import { upstreamHandler } from './upstream/handler.ts';
import { targetCAFile } from './upstream/target-ca.ts';
import { type Session, startSession } from './work.ts';

/** An agent that runs. */
export type Agent = {
  /** Undefined without --health-port. */
  healthPort: number | undefined;
  /** Takes no new requests, lets those under way end, and gives the Lease back. */
  stop(): Promise<void>;
};

/** Builds everything and starts. Rejects when the configuration cannot work, with FlagError when a flag is to blame; what can pass is waited out and shown in `/readyz`. */
export async function startAgent(options: Options, log: Logger): Promise<Agent> {
  const lifetime = new AbortController();
  const stopping = new AbortController();
  const { signal } = lifetime;
  const onError = (error: unknown) => log.warn(error instanceof Error ? error.message : String(error));
  for (const warning of options.warnings) log.warn(warning);
  const targetCA = targetCAFile(options.targetCAFile, onError);

  let session: Session | undefined;
  const metrics = agentMetrics({ roundTripMs: () => session?.roundTripMs(), tokenEndsAt: () => session?.credential()?.expiresAt });
  // A replica that waits for its turn is ready: it does what it is there for.
  let unready: string | undefined = options.bare ? 'starting' : undefined;
  const cluster =
    options.lifecycle && keepCluster({ options: options.lifecycle, stateDir: options.stateDir, registry: metrics.registry, log, onError });
  const child = await childCluster({
    // On a bare machine the cluster that the agent made itself, once there is one.
    kubeconfig: () => options.kubeconfig || (options.bare ? cluster?.kubeconfigPath() : ''),
    optional: options.bare,
    signal,
    onError,
  });
  const answers = agentAnswers({ registry: metrics.registry, unready: () => unready ?? session?.unready() ?? cluster?.problem() });
  const api = agentApi(answers, () => cluster?.api);
  const serve = upstreamHandler({
    child: child.connection,
    allowTargets: options.allowTargets,
    targetCA,
    allowIdentities: options.allowIdentities,
    agentAPI: apiStreams(api, answers, onError),
    registry: metrics.registry,
    onError,
    // Asked once: what nobody reads is not even put together.
    ...(log.isLevelEnabled('debug') && { onConnection: (tried) => log.debug(tried, tried.failure ? 'no connection' : 'connection') }),
    ...(log.isLevelEnabled('trace') && { onRequest: (answered) => log.trace(answered, 'request') }),
  });
  const health = options.health.port > 0 ? await healthServer(answers, { ...options.health, onError }) : undefined;

  // The tunnel is the way that matters: a place where no socket can be made does not keep the agent from it.
  const socket = options.lifecycle?.socket ? await socketServer(options.lifecycle.socket, api, onError).catch(onError) : undefined;

  async function work(
    until: AbortSignal,
    id: (signal: AbortSignal) => Promise<string>,
    store: Store,
    mayReturn?: (signal: AbortSignal) => Promise<boolean>,
  ): Promise<void> {
    const clusterId = await patiently(() => id(until), until, onError);
    if (clusterId === undefined) return;
    unready = undefined;
    log.info({ clusterId, parent: options.parent.url }, 'standing for this cluster');
    session = startSession({ options, clusterId, store, child, serve, metrics, log, ...(mayReturn && { mayReturn }) });
    await new Promise<void>((resolve) => {
      if (until.aborted) resolve();
      else until.addEventListener('abort', () => resolve(), { once: true });
    });
    const ending = session;
    session = undefined;
    await ending.stop(options.shutdownTimeoutMs);
  }

  const running = options.bare
    ? work(stopping.signal, () => machineClusterId(), fileStore(options.stateDir))
    : runAsLeader({
        client: () => clientOf(child),
        namespace: options.namespace,
        lease: AGENT_LEASE,
        identity: options.identity,
        signal: stopping.signal,
        work: (until, holds) =>
          work(
            until,
            (given) => clusterIdOf(clientOf(child), options.namespace, given),
            secretStore(() => clientOf(child), options.namespace),
            holds,
          ),
        onError,
      });
  const ended = running.catch(onError);

  return {
    healthPort: health?.port,
    async stop() {
      log.info('shutting down');
      unready = 'the process is shutting down';
      stopping.abort();
      // First: the command of an operation ends, and whoever follows the log is let go.
      await cluster?.stop();
      if (socket) await socket.close();
      await ended;
      await health?.close();
      lifetime.abort();
      log.info('stopped');
    },
  };
}

function clientOf(child: Child): KubeClient {
  const client = child.client();
  if (!client) throw new Error('there is no kubeconfig for the cluster');
  return client;
}

/** The result once it works; undefined when the signal was aborted before. */
async function patiently<T>(call: () => Promise<T>, signal: AbortSignal, onError: (error: unknown) => void): Promise<T | undefined> {
  const retry = backoff(500, 15_000);
  while (!signal.aborted) {
    try {
      return await call();
    } catch (error) {
      if (!signal.aborted) onError(error);
      await retry.pause(signal, 250);
    }
  }
  return undefined;
}
