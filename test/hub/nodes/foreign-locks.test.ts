import { expect, test } from 'vitest';
import { foreignLocks } from '../../../src/hub/nodes/foreign-locks.ts';
import { cleanUp } from '../../support/clean-up.ts';
import { kubeApi } from '../../support/kube-api.ts';
import { eventually } from '../auth/eventually.ts';

const cleaning = cleanUp();
const LEASES = (namespace: string) => `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`;
const NAMESPACE = '/api/v1/namespaces/medik8s-leases';

async function setUp(options: { installed?: boolean; denied?: boolean; medik8s?: boolean } = {}) {
  const api = await kubeApi();
  cleaning.after(api.close);
  if (options.installed) api.put('/api/v1/namespaces', { metadata: { name: 'medik8s-leases' } });
  const allow = options.denied ? api.fault(({ path }) => (path === LEASES('medik8s-leases') ? { code: 403 } : undefined)) : () => undefined;
  const lease = (namespace: string, holderIdentity: string) =>
    api.put(LEASES(namespace), {
      metadata: { name: 'node-n1' },
      spec: { holderIdentity, renewTime: new Date().toISOString(), leaseDurationSeconds: 60 },
    });
  const errors: string[] = [];
  const find = foreignLocks({
    client: api.client,
    namespace: 'x',
    medik8s: options.medik8s ?? true,
    signal: cleaning.signal(),
    onError: (error) => errors.push(String(error)),
  });
  const watched = (count: number) => eventually('the watches', () => api.watches() === count);
  return { api, lease, errors, find, allow, watched };
}

test('Leases of others in both namespaces, not our own', async () => {
  const { lease, find, watched } = await setUp({ installed: true });
  await watched(2);
  lease('x', 'fairlead-hub/o1');
  lease('medik8s-leases', 'far');
  await eventually('the Lease', () => find('n1') !== undefined);
  expect(find('n1')).toEqual({ holder: 'far', lease: 'medik8s-leases/node-n1' });
  expect(find('n2')).toBeUndefined();
});

test('regression: Leases of medik8s that the hub may not read counted as Leases that nobody holds', async () => {
  const { api, lease, errors, find, allow } = await setUp({ installed: true, denied: true });
  await eventually('the guard to know', () => find('n1') !== undefined);
  expect(find('n1')).toEqual({
    hidden: expect.stringContaining('may not read the Leases of namespace medik8s-leases'),
    remedy: expect.stringMatching(/deploy\/components\/medik8s.*--medik8s-leases=false/),
  });
  // Said once, however often it is tried.
  await eventually('further attempts', () => api.count('GET', NAMESPACE) >= 3);
  expect(errors).toEqual([expect.stringContaining('every operation is refused')]);
  lease('medik8s-leases', 'far');
  allow();
  await eventually('the Lease', () => find('n1') !== undefined && 'holder' in (find('n1') ?? {}));
  expect(find('n2')).toBeUndefined();
});

test('without medik8s there is no namespace, and the missing right is no trouble', async () => {
  const { api, errors, find } = await setUp({ denied: true });
  await eventually('attempts', () => api.count('GET', NAMESPACE) >= 2);
  expect([find('n1'), errors]).toEqual([undefined, []]);
});

test('a namespace that may not be looked at might be there: that is refused too', async () => {
  const { api, find } = await setUp({ denied: true });
  api.fault(({ path }) => (path === NAMESPACE ? { code: 403 } : undefined));
  await eventually('the guard to know', () => find('n1') !== undefined);
  expect(find('n1')).toHaveProperty('hidden');
});

test('turned off nobody asks', async () => {
  const { api, find, watched } = await setUp({ installed: true, denied: true, medik8s: false });
  await watched(1);
  expect(find('n1')).toBeUndefined();
  expect(api.count('GET', 'medik8s')).toBe(0);
});
