import { expect, test, vi } from 'vitest';
import { runAsLeader } from '../../src/agent/leadership.ts';
import { cleanUp } from '../support/clean-up.ts';
import { kubeApi } from '../support/kube-api.ts';

const { after } = cleanUp();
const LEASES = '/apis/coordination.k8s.io/v1/namespaces/ns/leases';

test('a leader knows whether the Lease is its own: not while it cannot read it, nor when another holds it', async () => {
  const api = await kubeApi();
  after(() => api.close());
  const stop = new AbortController();
  let holds: ((signal: AbortSignal) => Promise<boolean>) | undefined;
  const running = runAsLeader({
    client: () => api.client,
    namespace: 'ns',
    lease: 'clusternet-agent',
    identity: 'one',
    signal: stop.signal,
    work: async (until, given) => {
      holds = given;
      await new Promise<void>((resolve) => until.addEventListener('abort', () => resolve(), { once: true }));
    },
    onError: () => undefined,
    timing: { leaseDurationMs: 60_000, renewDeadlineMs: 50_000, retryPeriodMs: 20_000 },
  });
  after(async () => {
    stop.abort();
    await running;
  });
  await vi.waitFor(() => expect(holds).toBeDefined());
  expect(await holds?.(stop.signal)).toBe(true);
  const back = api.fault(() => 'refuse');
  expect(await holds?.(stop.signal)).toBe(false);
  back();
  expect(await holds?.(stop.signal)).toBe(true);
  const lease = api.get(`${LEASES}/clusternet-agent`);
  api.put(LEASES, { ...lease, spec: { ...lease?.spec, holderIdentity: 'other' } });
  expect(await holds?.(stop.signal)).toBe(false);
});
