import { readFileSync } from 'node:fs';
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import { refusal } from './api/agent-api.ts';
import { backoff } from './backoff.ts';
import type { LifecycleApi } from './lifecycle/api/rest.ts';
import { lifecycleApi } from './lifecycle/api/rest.ts';
import { artifactSource } from './lifecycle/artifacts/artifact-source.ts';
import { distributionsWith } from './lifecycle/distributions/registry.ts';
import { type Lifecycle, startLifecycle } from './lifecycle/lifecycle.ts';
import { type LocalMachine, localMachine } from './lifecycle/machine/local-machine.ts';
import { lifecycleMetrics } from './lifecycle/metrics.ts';
import { lockFolder } from './lifecycle/state/lock.ts';
import type { LifecycleOptions } from './options.ts';
import { trustSystemCAs } from './trust.ts';

/** The lifecycle of the cluster on this machine as the agent has it: there from the start, working as soon as its state could be read. */
export type ClusterLifecycle = {
  api: LifecycleApi;
  kubeconfigPath(): string | undefined;
  /** What is wrong, in words. */
  problem(): string | undefined;
  stop(): Promise<void>;
};

const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 60_000;

/** Starts it. What keeps it from working does not keep the agent from registering: it is answered as a 503, shown by `problem`, and tried again. */
export function keepCluster(given: {
  options: LifecycleOptions;
  stateDir: string;
  registry: Registry;
  log: Logger;
  onError: (error: unknown) => void;
}): ClusterLifecycle {
  const { options, stateDir, log, onError } = given;
  const stopping = new AbortController();
  const { signal } = stopping;
  const metrics = lifecycleMetrics(given.registry);
  let lifecycle: Lifecycle | undefined;
  let api: LifecycleApi | undefined;
  let problem: string | undefined = 'the lifecycle is starting';

  async function start(): Promise<void> {
    const lock = await lockFolder(stateDir);
    const machine = await localMachine({ onError });
    const end = async () => {
      machine.close();
      await lock.release();
    };
    try {
      await startOn(machine, end);
    } catch (error) {
      await end();
      throw error;
    }
  }

  async function startOn(machine: LocalMachine, end: () => Promise<void>): Promise<void> {
    await machine.resumeServices();
    const { artifacts, renewBeforeMs, followKubelet, statusIntervalMs, downloadURL } = options;
    const started = await startLifecycle({
      stateDir,
      machine,
      metrics,
      distributions: distributionsWith({
        k3s: {
          ...(options.k3sInstallerURL && { installerURL: options.k3sInstallerURL }),
          ...(options.k3sReleasesURL && { releasesURL: options.k3sReleasesURL }),
        },
      }),
      artifacts(source) {
        trustSystemCAs();
        return artifactSource(source, {
          ...(downloadURL && { downloadURL }),
          ...(options.caFile && { ca: readFileSync(options.caFile, 'utf8') }),
        });
      },
      settings: { artifacts, renewBeforeMs, followKubelet, statusIntervalMs },
      onEnd({ id, type, phase, message }) {
        if (phase === 'Succeeded') log.info({ operation: id, type }, 'operation succeeded');
        else log.warn({ operation: id, type, message }, 'operation failed');
      },
      onError,
    });
    api = lifecycleApi({
      service: started.service,
      metrics,
      cluster: () => ({ clusterType: started.clusterType(), version: started.version() }),
      signal,
      onError,
    });
    lifecycle = {
      ...started,
      async stop() {
        await started.stop();
        await end();
      },
    };
    problem = undefined;
  }

  async function keepStarting(): Promise<void> {
    const retry = backoff(FIRST_RETRY_MS, LONGEST_RETRY_MS);
    while (!lifecycle && !signal.aborted) {
      try {
        await start();
      } catch (error) {
        problem = `the lifecycle cannot start: ${error instanceof Error ? error.message : String(error)}`;
        onError(new Error(problem, { cause: error }));
        await retry.pause(signal, FIRST_RETRY_MS / 2);
      }
    }
  }
  const starting = keepStarting();

  return {
    api: async (request) =>
      api
        ? await api(request)
        : request.target.startsWith('/api/')
          ? refusal(503, 'ServiceUnavailable', problem ?? 'the lifecycle is starting')
          : undefined,
    kubeconfigPath: () => lifecycle?.kubeconfigPath(),
    problem: () => problem ?? lifecycle?.problem(),
    async stop() {
      stopping.abort();
      await starting;
      await lifecycle?.stop();
    },
  };
}
