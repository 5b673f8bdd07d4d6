import type { V1Pod, V1PodList } from '@kubernetes/client-node';
import type { KubeClient } from '../../../kube/client.ts';
import { isConflict, isNotFound, KubeError, KubeUnreachableError } from '../../../kube/errors.ts';
import { OperationError } from './cloud-call.ts';
import { type DrainOptions, judgePod } from './drain-filters.ts';

export type DrainInput = {
  client: KubeClient;
  nodeName: string;
  options: DrainOptions;
  /** Milliseconds left; the drain fails with reason DrainTimeout when it reaches 0. */
  leftMs: () => number;
  /** Waits; rejects when the operation must stop. */
  pause: (ms: number) => Promise<void>;
  /** Told when the numbers change. */
  progress: (podsToEvict: number, podsEvicted: number) => Promise<void>;
};

const PARALLEL = 20;
const EVICTION_RETRY_MS = 5_000;
const GONE_POLL_MS = 1_000;

/**
 * Evicts the pods of a node and waits until they are gone. Throws OperationError DrainRefused before anything is evicted when a pod stands against it, and
 * DrainTimeout when time runs out; the node is left cordoned in both cases, uncordoning is the caller's.
 */
export async function drainNode(input: DrainInput): Promise<void> {
  const pods = await podsToEvict(input);
  let evicted = 0;
  await input.progress(pods.length, 0);
  const waiting = [...pods];
  let failed = false;
  // The first failure ends the drain and the node is uncordoned: the other workers must not evict any more.
  const goOn = () => {
    if (failed) throw new OperationError('DrainFailed', 'another pod could not be evicted');
  };
  const worker = async () => {
    try {
      for (let pod = waiting.shift(); pod; pod = waiting.shift()) {
        await removePod(input, pod, goOn);
        evicted++;
        if (evicted % 10 === 0 || evicted === pods.length) await input.progress(pods.length, evicted);
      }
    } catch (error) {
      failed = true;
      throw error;
    }
  };
  await Promise.all(Array.from({ length: Math.min(PARALLEL, pods.length) }, worker));
}

async function podsToEvict(input: DrainInput): Promise<V1Pod[]> {
  const { client, nodeName, options } = input;
  const query = { fieldSelector: `spec.nodeName=${nodeName}`, labelSelector: options.podSelector };
  const list = await patiently(input, () => client.request<V1PodList>({ path: '/api/v1/pods', query }));
  const daemonSets = new Map<string, boolean>();
  const evict: V1Pod[] = [];
  const refused: string[] = [];
  for (const pod of list.items) {
    const verdict = judgePod(pod, options, await daemonSetExists(input, pod, daemonSets), new Date());
    if (verdict.verdict === 'evict') evict.push(pod);
    else if (verdict.verdict === 'refuse') refused.push(verdict.why);
  }
  if (refused.length > 0) {
    throw new OperationError(
      'DrainRefused',
      `the node cannot be drained: ${refused.slice(0, 5).join('; ')}${refused.length > 5 ? `; and ${refused.length - 5} more` : ''}`,
    );
  }
  return evict;
}

async function daemonSetExists(input: DrainInput, pod: V1Pod, known: Map<string, boolean>): Promise<boolean> {
  const owner = pod.metadata?.ownerReferences?.find((reference) => reference.controller && reference.kind === 'DaemonSet');
  if (!owner) return false;
  const path = `/apis/apps/v1/namespaces/${pod.metadata?.namespace}/daemonsets/${owner.name}`;
  const cached = known.get(path);
  if (cached !== undefined) return cached;
  const exists = await patiently(input, () =>
    input.client.request({ path }).then(
      () => true,
      (error: unknown) => {
        if (isNotFound(error)) return false;
        throw error;
      },
    ),
  );
  known.set(path, exists);
  return exists;
}

/** Evicts one pod, as often as its budget or the API server asks to wait, and waits until it is gone. */
async function removePod(input: DrainInput, pod: V1Pod, goOn: () => void): Promise<void> {
  const { client, options } = input;
  const name = pod.metadata?.name ?? '';
  const namespace = pod.metadata?.namespace ?? '';
  const path = `/api/v1/namespaces/${namespace}/pods/${name}`;
  const grace = options.gracePeriodSeconds >= 0 ? { gracePeriodSeconds: options.gracePeriodSeconds } : {};
  const deleteOptions = { ...grace, preconditions: { uid: pod.metadata?.uid } };
  /** Also when a pod of the same name has taken its place. */
  const isGone = () =>
    client.request<V1Pod>({ path }).then(
      (current) => current.metadata?.uid !== pod.metadata?.uid,
      (error: unknown) => {
        if (isNotFound(error)) return true;
        throw error;
      },
    );
  for (let asked = false; ; ) {
    goOn();
    try {
      if (!asked && options.disableEviction) {
        await client.request({ method: 'DELETE', path, body: { apiVersion: 'v1', kind: 'DeleteOptions', ...deleteOptions } });
      } else if (!asked) {
        const body = { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name, namespace }, deleteOptions };
        await client.request({ method: 'POST', path: `${path}/eviction`, body });
      }
      asked = true;
      if (await isGone()) return;
    } catch (error) {
      if (isNotFound(error)) return;
      // 409 is our uid as precondition, or a write of the pod or its budget that was faster: then it still runs, and is asked for again.
      if (isConflict(error) && (await patiently(input, isGone))) return;
      if (!mayPass(error))
        throw new OperationError(
          'DrainFailed',
          `evicting pod ${namespace}/${name}: ${error instanceof Error ? error.message : String(error)}`,
        );
      if (input.leftMs() <= 0)
        throw new OperationError('DrainTimeout', `pod ${namespace}/${name} could not be evicted in time: ${(error as Error).message}`);
      const retry = error instanceof KubeError && error.code === 429 ? EVICTION_RETRY_MS : GONE_POLL_MS;
      await input.pause(Math.max(Math.min(retry, input.leftMs()), 1));
      continue;
    }
    if (input.leftMs() <= 0) throw new OperationError('DrainTimeout', `pod ${namespace}/${name} was evicted but is not gone in time`);
    await input.pause(GONE_POLL_MS);
  }
}

/** A budget that allows nothing now, a write that was faster, a namespace that is ending, or an API server in trouble: asking again can help. */
function mayPass(error: unknown): boolean {
  if (error instanceof KubeUnreachableError) return true;
  if (!(error instanceof KubeError)) return false;
  const terminating = error.code === 403 && error.status.details?.causes?.some((cause) => cause.reason === 'NamespaceTerminating');
  return error.code === 409 || error.code === 429 || error.code >= 500 || Boolean(terminating);
}

async function patiently<T>(input: DrainInput, ask: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (!mayPass(error))
        throw new OperationError('DrainFailed', `the node cannot be drained: ${error instanceof Error ? error.message : String(error)}`);
      if (input.leftMs() <= 0) throw new OperationError('DrainTimeout', `the node cannot be drained: ${(error as Error).message}`);
      await input.pause(GONE_POLL_MS);
    }
  }
}
