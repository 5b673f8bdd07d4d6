import type { V1Pod } from '@kubernetes/client-node';
import { expect, test } from 'vitest';
import { type DrainOptions, judgePod } from '../../../../src/hub/nodes/operations/drain-filters.ts';

const NOW = new Date('2026-01-01T00:10:00Z');
const DEFAULTS: DrainOptions = {
  ignoreDaemonSets: true,
  deleteEmptyDirData: false,
  evictUnmanaged: false,
  disableEviction: false,
  podSelector: undefined,
  gracePeriodSeconds: -1,
  skipWaitForDeleteTimeoutSeconds: 0,
};
const STRICT = { ignoreDaemonSets: false };
const owner = (kind: string, controller = true) => [{ apiVersion: 'apps/v1', kind, name: 'o', uid: 'u', controller }];
type Parts = { owners?: ReturnType<typeof owner>; phase?: string; mirror?: boolean; emptyDir?: boolean; deletedAt?: string };

const podOf = ({ owners, phase = 'Running', mirror, emptyDir, deletedAt }: Parts): V1Pod => ({
  metadata: {
    name: 'p',
    namespace: 'ns',
    ...(owners && { ownerReferences: owners }),
    ...(mirror && { annotations: { 'kubernetes.io/config.mirror': '' } }),
    ...(deletedAt && { deletionTimestamp: deletedAt as never }),
  },
  spec: { containers: [], ...(emptyDir && { volumes: [{ name: 'v', emptyDir: {} }] }) },
  status: { phase },
});

const RS = owner('ReplicaSet');
const DS = owner('DaemonSet');

// kubectl's own table (pkg/drain/filters.go and its tests), flag by flag.
test.each<[string, Parts, Partial<DrainOptions>, boolean, 'evict' | 'skip' | RegExp]>([
  ['a managed pod', { owners: RS }, {}, false, 'evict'],
  ['a Job pod that runs', { owners: owner('Job') }, {}, false, 'evict'],
  ['a DaemonSet pod', { owners: DS }, {}, true, 'skip'],
  ['a DaemonSet pod, not ignored', { owners: DS }, STRICT, true, /ns\/p belongs to a DaemonSet \(ignoreDaemonSets\)/],
  ['a DaemonSet pod with emptyDir, ignored', { owners: DS, emptyDir: true }, {}, true, 'skip'],
  ['a finished DaemonSet pod', { owners: DS, phase: 'Succeeded' }, STRICT, true, 'evict'],
  ['a failed DaemonSet pod', { owners: DS, phase: 'Failed' }, {}, true, 'evict'],
  ['a DaemonSet pod whose DaemonSet is gone', { owners: DS }, {}, false, /DaemonSet that is gone \(evictUnmanaged\)/],
  ['the same, forced', { owners: DS }, { evictUnmanaged: true }, false, 'evict'],
  ['the same, forced, with emptyDir', { owners: DS, emptyDir: true }, { evictUnmanaged: true }, false, /deleteEmptyDirData/],
  ['owned, but not controlled, by a DaemonSet', { owners: owner('DaemonSet', false) }, {}, true, /no controller/],
  ['a mirror pod', { mirror: true }, {}, false, 'skip'],
  ['a mirror pod with emptyDir', { mirror: true, emptyDir: true }, {}, false, 'skip'],
  ['emptyDir', { owners: RS, emptyDir: true }, {}, false, /ns\/p keeps data in emptyDir/],
  ['emptyDir, allowed', { owners: RS, emptyDir: true }, { deleteEmptyDirData: true }, false, 'evict'],
  ['emptyDir of a finished pod', { owners: RS, emptyDir: true, phase: 'Succeeded' }, {}, false, 'evict'],
  ['no controller', {}, {}, false, /no controller that would bring it back/],
  ['no controller, forced', {}, { evictUnmanaged: true }, false, 'evict'],
  ['no controller, finished', { phase: 'Failed' }, {}, false, 'evict'],
  ['no controller and emptyDir, both allowed', { emptyDir: true }, { evictUnmanaged: true, deleteEmptyDirData: true }, false, 'evict'],
  ['long in deletion', { deletedAt: '2026-01-01T00:00:00Z' }, { skipWaitForDeleteTimeoutSeconds: 60 }, false, 'skip'],
  ['just in deletion', { owners: RS, deletedAt: '2026-01-01T00:09:30Z' }, { skipWaitForDeleteTimeoutSeconds: 60 }, false, 'evict'],
  ['long in deletion, all are waited for', { owners: RS, deletedAt: '2026-01-01T00:00:00Z' }, {}, false, 'evict'],
])('%s', (_, parts, options, daemonSetExists, wanted) => {
  const verdict = judgePod(podOf(parts), { ...DEFAULTS, ...options }, daemonSetExists, NOW);
  if (wanted instanceof RegExp) expect(verdict).toEqual({ verdict: 'refuse', why: expect.stringMatching(wanted) });
  else expect(verdict).toEqual({ verdict: wanted });
});
