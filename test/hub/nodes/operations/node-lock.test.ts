import { expect, test } from 'vitest';
import { lockNode, unlockNode } from '../../../../src/hub/nodes/operations/node-lock.ts';
import { cleanUp } from '../../../support/clean-up.ts';
import { kubeApi } from '../../../support/kube-api.ts';

const cleaning = cleanUp();
const LEASES = '/apis/coordination.k8s.io/v1/namespaces/x/leases';
type Lease = { spec?: { holderIdentity?: string; acquireTime?: string; renewTime?: string; leaseDurationSeconds?: number } };

async function setUp() {
  const api = await kubeApi();
  cleaning.after(api.close);
  const lease = () => (api.get(`${LEASES}/node-n1`) as Lease | undefined)?.spec;
  const hold = (holderIdentity: string, renewTime: string) =>
    api.put(LEASES, {
      metadata: { name: 'node-n1' },
      spec: { holderIdentity, acquireTime: renewTime, renewTime, leaseDurationSeconds: 60 },
    });
  return { api, lease, hold, lock: (operation: string, seconds = 60) => lockNode(api.client, 'x', 'n1', operation, seconds) };
}
const LONG_AGO = '2026-01-01T00:00:00.000000Z';

test("regression: a replica that took an operation over left its Lease's time to run out", async () => {
  const { lease, hold, lock } = await setUp();
  hold('fairlead-hub/o1', LONG_AGO);
  const before = Date.now();
  expect(await lock('o1', 120)).toBeUndefined();
  expect(lease()).toMatchObject({ holderIdentity: 'fairlead-hub/o1', acquireTime: LONG_AGO, leaseDurationSeconds: 120 });
  expect(Date.parse(lease()?.renewTime ?? '')).toBeGreaterThanOrEqual(before);
});

test("somebody else's Lease is kept while it holds, and taken with a new time when it has run out or is a leftover of ours", async () => {
  const { lease, hold, lock } = await setUp();
  hold('medik8s', new Date().toISOString());
  expect(await lock('o1')).toBe('medik8s');
  expect(lease()?.holderIdentity).toBe('medik8s');
  for (const holder of ['medik8s', 'fairlead-hub/old']) {
    hold(holder, LONG_AGO);
    expect(await lock('o1')).toBeUndefined();
    expect(lease()?.holderIdentity).toBe('fairlead-hub/o1');
    expect(lease()?.acquireTime).toBe(lease()?.renewTime);
  }
});

test('another replica that renews at the same time is no trouble', async () => {
  const { api, lease, hold, lock } = await setUp();
  hold('fairlead-hub/o1', LONG_AGO);
  let writes = 0;
  api.fault(({ method }) => {
    if (method === 'PUT' && writes++ === 0) hold('fairlead-hub/o1', LONG_AGO);
    return undefined;
  });
  expect(await lock('o1')).toBeUndefined();
  expect(writes).toBe(2);
  await unlockNode(api.client, 'x', 'n1', 'o1');
  expect(lease()).toBeUndefined();
});
