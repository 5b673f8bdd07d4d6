import { afterEach, describe, expect, test, vi } from 'vitest';
import type { OperationError } from '../../../../src/hub/nodes/operations/cloud-call.ts';
import { type DrainInput, drainNode } from '../../../../src/hub/nodes/operations/drain.ts';
import { leftSince } from '../../../../src/hub/nodes/operations/wait-ready.ts';
import { cleanUp } from '../../../support/clean-up.ts';
import { kubeApi } from '../../../support/kube-api.ts';

const cleaning = cleanUp();
const PODS = '/api/v1/namespaces/a/pods';

async function setUp(more: Partial<DrainInput['options']> = {}) {
  const api = await kubeApi();
  cleaning.after(api.close);
  const pod = (name: string) =>
    api.put(PODS, {
      metadata: { name, ownerReferences: [{ kind: 'ReplicaSet', controller: true }] },
      spec: { nodeName: 'n1' },
      status: { phase: 'Running' },
    });
  const pauses: number[] = [];
  let left = 60_000;
  const drain = () =>
    drainNode({
      client: api.client,
      nodeName: 'n1',
      options: {
        ignoreDaemonSets: true,
        deleteEmptyDirData: false,
        evictUnmanaged: false,
        disableEviction: false,
        podSelector: undefined,
        gracePeriodSeconds: -1,
        skipWaitForDeleteTimeoutSeconds: 0,
        ...more,
      },
      leftMs: () => left,
      async pause(ms) {
        pauses.push(ms);
        left -= ms;
      },
      progress: async () => undefined,
    });
  return { api, pod, drain, pauses };
}

const removals = [
  ['an eviction', {}, ({ method, path }: { method: string; path: string }) => method === 'POST' && path.endsWith('/eviction')],
  ['a deletion', { disableEviction: true }, ({ method }: { method: string }) => method === 'DELETE'],
] as const;
describe.each(removals)('%s that is answered 409', (_, options, isRemoval) => {
  test('regression: a pod that somebody else had just written counted as gone while it ran', async () => {
    const { api, pod, drain, pauses } = await setUp(options);
    pod('web');
    let conflicts = 0;
    api.fault((request) => (isRemoval(request) && conflicts++ < 2 ? { code: 409 } : undefined));
    await drain();
    expect(api.all(PODS)).toEqual([]);
    expect([conflicts, pauses]).toEqual([3, [1_000, 1_000]]);
  });

  test('a pod of the same name that has taken its place is left alone', async () => {
    const { api, pod, drain } = await setUp(options);
    const old = pod('web');
    let asked = 0;
    api.fault((request) => {
      if (!isRemoval(request) || asked++ > 0) return undefined;
      api.remove(`${PODS}/web`);
      pod('web');
      return undefined;
    });
    await drain();
    const [now] = api.all(PODS);
    expect(now?.metadata.name).toBe('web');
    expect(now?.metadata.uid).not.toBe(old.metadata.uid);
    expect(asked).toBe(1);
  });

  test('for ever ends with the time', async () => {
    const { api, pod, drain } = await setUp(options);
    pod('web');
    api.fault((request) => (isRemoval(request) ? { code: 409 } : undefined));
    const error = (await drain().catch((thrown: unknown) => thrown)) as OperationError;
    expect([error.reason, error.message]).toEqual(['DrainTimeout', 'pod a/web could not be evicted in time: fault 409']);
  });
});

describe('the time that is left', () => {
  afterEach(() => vi.useRealTimers());
  const ago = (ms: number) => new Date(Date.now() - ms).toISOString();
  test('counts from what is written, also when another replica takes over, which gets a minute at least', () => {
    vi.useFakeTimers();
    expect(leftSince(undefined, 300_000)()).toBe(300_000);
    expect(leftSince(ago(200_000), 300_000)()).toBe(100_000);
    expect(leftSince(ago(299_000), 300_000)()).toBe(60_000);
    expect(leftSince(ago(900_000), 300_000)()).toBe(60_000);
    expect(leftSince(ago(900_000), 20_000)()).toBe(20_000);
    // A clock that was set back is no time that has passed.
    expect(leftSince(ago(-900_000), 300_000)()).toBe(300_000);
    const left = leftSince(ago(100_000), 300_000);
    vi.advanceTimersByTime(50_000);
    expect(left()).toBe(150_000);
  });
});
