import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openAuditLog } from '../../../../src/agent/lifecycle/audit/audit-log.ts';
import { operations } from '../../../../src/agent/lifecycle/service/operations.ts';
import type { State } from '../../../../src/agent/lifecycle/state/state.ts';
import type { ClusterSpec } from '../../../../src/kube/lifecycle.ts';
import { cleanUp } from '../../../support/clean-up.ts';
import { waitUntil } from '../../../support/wait-until.ts';
import { asking, installed, sandbox, settled } from '../support/sandbox.ts';

const clean = cleanUp();

test('a wish that nothing came of does not keep the reconcilers waiting, whatever the history says of it', async () => {
  const { box, lifecycle } = await installed(clean);
  await lifecycle.service.upgrade({ spec: { version: 'v1.36.3' } }, asking('u'));
  await settled(lifecycle, 'Provisioned');
  await lifecycle.stop();
  // The agent died when the entry in the history was ended, and before the wish was taken back.
  const path = 'var/lib/fairlead-agent/lifecycle/cluster.json';
  const state = JSON.parse(await box.read(path)) as { spec: object };
  const wish = { type: 'Upgrade', spec: { ...state.spec, version: 'v1.37.0' }, metadata: {} };
  await box.write(path, JSON.stringify({ ...state, wish }), 0o600);
  const again = await box.start();
  await waitUntil(async () => (await again.service.reconcilers()).reconciler[0]?.status === 'the cluster is ready', 'a look');
  expect(await again.service.get()).toMatchObject({ spec: { version: 'v1.36.3' }, status: { phase: 'Provisioned' } });
  expect(JSON.parse(await box.read(path))).not.toHaveProperty('wish');
});

test('a wish that a full disk did not let be taken back counts for nothing', async () => {
  let wish: State['wish'];
  const state = (): State => ({ phase: 'NotInitialised', spec: undefined, metadata: {}, wish, installed: false, conditions: [] });
  const full = async () => {
    throw new Error('ENOSPC: no space left on device, write');
  };
  const begun = operations({
    manager: {
      start: async () => undefined,
      begin: full,
      plan: full,
      last: () => undefined,
      onEnd: () => undefined,
      log: async function* () {},
      written: async () => [],
      busy: () => false,
      settled: async () => undefined,
      stop: async () => undefined,
    },
    audit: await audit(),
    state: {
      get: state,
      async change(change) {
        if ('wish' in change && change.wish === undefined) return await full();
        wish = change.wish;
      },
      observe: () => undefined,
    },
    secrets: { take: async (spec) => spec, keepOnly: async () => undefined, values: async () => [] },
    now: () => new Date(),
    ended: () => undefined,
    secretsChanged: async () => undefined,
  });
  const spec: ClusterSpec = { clusterType: 'kubeadm' };
  await expect(begun.begin({ type: 'Install', spec, before: undefined, metadata: {} }, asking('a'))).rejects.toThrow('ENOSPC');
  expect(state().wish?.type).toBe('Install');
  expect(begun.busy()).toBe(false);

  async function audit() {
    const box = await sandbox(clean);
    const log = await openAuditLog(join(box.root, 'audit'));
    clean.after(() => log.close());
    return log;
  }
});
