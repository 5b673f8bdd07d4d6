import { chmod, rm } from 'node:fs/promises';
import { expect, test } from 'vitest';
import type { Lifecycle } from '../../../../src/agent/lifecycle/lifecycle.ts';
import { certificateReconciler, isAuthority, renewBefore } from '../../../../src/agent/lifecycle/reconcilers/certificates.ts';
import { sysctlsOf } from '../../../../src/agent/lifecycle/reconcilers/find-drift.ts';
import { reconcilerLoops } from '../../../../src/agent/lifecycle/reconcilers/loops.ts';
import { parseDuration } from '../../../../src/kube/flags.ts';
import { cleanUp } from '../../../support/clean-up.ts';
import { waitUntil } from '../../../support/wait-until.ts';
import { asking, cluster, installed, settled } from '../support/sandbox.ts';

const clean = cleanUp();
const { signal } = clean;
const DAY = 86_400_000;
async function condition(lifecycle: Lifecycle, type: string) {
  return (await lifecycle.service.get()).status.conditions?.find((one) => one.type === type);
}
async function becomes(lifecycle: Lifecycle, type: string, status: string, reason?: string): Promise<void> {
  await waitUntil(
    async () => {
      const found = await condition(lifecycle, type);
      return found?.status === status && (reason === undefined || found.reason === reason);
    },
    `${type} to be ${status} ${reason ?? ''}`,
  );
}

test('conditions follow what is seen, and keep the time of their last transition', async () => {
  const { box, lifecycle } = await installed(clean);
  await becomes(lifecycle, 'NodeReady', 'True');
  const since = (await condition(lifecycle, 'NodeReady'))?.lastTransitionTime;
  await box.write('etc/little/node', 'broken\n');
  await becomes(lifecycle, 'NodeReady', 'False');
  await becomes(lifecycle, 'ClusterReady', 'False');
  expect(await condition(lifecycle, 'NodeReady')).toMatchObject({
    message: expect.stringContaining('the file says so'),
    severity: 'Error',
  });
  expect((await condition(lifecycle, 'NodeReady'))?.lastTransitionTime).not.toBe(since);
  await box.write('etc/little/node', 'ready\n');
  await becomes(lifecycle, 'ClusterReady', 'True');
  const { reconciler } = await lifecycle.service.reconcilers();
  expect(reconciler.map(({ name }) => name)).toEqual(['cluster-status-reconciler', 'cluster-certs-reconciler', 'drift-reconciler']);
  expect(reconciler[0]?.status).toBe('the cluster is ready');
});

test('a cluster that was removed by hand is Deleted, with an entry in the history, and can be created again', async () => {
  const { box, lifecycle, service } = await installed(clean);
  await rm(`${box.root}/etc/little/admin.conf`);
  await settled(lifecycle, 'Deleted');
  await waitUntil(async () => (await service.audit()).operations.at(-1)?.reason === 'RemovedByHand', 'the entry');
  expect(lifecycle.kubeconfigPath()).toBeUndefined();
  await service.create(cluster(), asking('again'));
  await settled(lifecycle, 'Provisioned');
});

test('a deletion that failed half way is not taken for a removal by hand, and can be asked for again', async () => {
  const { box, lifecycle, service } = await installed(clean);
  const good = await box.read('bin/unmake-cluster');
  await box.program('unmake-cluster', 'rm -f $ROOT/etc/little/admin.conf; echo "a mount is busy" >&2; exit 1');
  await service.delete(asking('delete'));
  await settled(lifecycle, 'Failed');
  const said = 'a deletion failed half way: ask for it again';
  const looked = (one: Lifecycle) => async () => (await one.service.reconcilers()).reconciler[0]?.status === said;
  await waitUntil(looked(lifecycle), 'a look');
  await lifecycle.stop();
  // Nor after a restart of the agent and of the machine.
  const again = await box.start();
  await waitUntil(looked(again), 'a look of the next agent');
  await again.service.restart(asking('restart'));
  await waitUntil(async () => (await again.service.get()).status.operation?.type === 'Restart', 'the restart');
  await settled(again, 'Failed');
  await waitUntil(looked(again), 'a look after the restart');
  await becomes(again, 'ClusterReady', 'False', 'ClusterNotReady');
  expect((await again.service.get()).spec?.version).toBe('v1.35.4');
  expect((await again.service.audit()).operations.map(({ reason }) => reason)).not.toContain('RemovedByHand');
  await expect(again.service.create(cluster(), asking('create'))).rejects.toMatchObject({ status: { code: 409 } });

  await box.write('bin/unmake-cluster', good, 0o755);
  await again.service.delete(asking('delete-2'));
  await settled(again, 'Deleted');
  await expect(box.read('etc/little/config')).rejects.toMatchObject({ code: 'ENOENT' });
  expect((await again.service.audit()).operations.at(-1)).toMatchObject({ operation: 'Reset', Status: 'Completed', auditID: 'delete-2' });
});

test('a kubelet that was upgraded by hand is noticed, and followed only when that is configured', async () => {
  const { box, lifecycle, service } = await installed(clean);
  await box.write('etc/little/kubelet', 'v1.36.3\n');
  await becomes(lifecycle, 'PackageReady', 'False', 'KubeletVersionSkew');
  expect((await service.get()).spec?.version).toBe('v1.35.4');
  await lifecycle.stop();
  const following = await box.start({ followKubelet: true });
  await waitUntil(async () => (await following.service.get()).spec?.version === 'v1.36.3', 'the upgrade');
  await settled(following, 'Provisioned');
  expect((await following.service.get()).status.operation).toMatchObject({ type: 'Upgrade', requestedBy: 'fairlead-agent' });
  await becomes(following, 'PackageReady', 'True');
});

test('a control plane that cannot follow its kubelet is not upgraded again and again', async () => {
  const { box, lifecycle } = await installed(clean);
  await lifecycle.stop();
  await box.program('upgrade-cluster', '[ "$1" = v1.36.3 ] && { echo x >> $ROOT/tries; exit 1; }; exit 0');
  await box.write('etc/little/kubelet', 'v1.36.3\n');
  let now = Date.now();
  const following = await box.start({ followKubelet: true, now: () => new Date(now) });
  const tries = async () => (await box.read('tries').catch(() => '')).length / 2;
  await waitUntil(async () => (await tries()) === 1, 'the first try');
  await settled(following, 'Provisioned');
  // Looks go on: what changes now is seen by a later one.
  for (const node of ['away', 'ready', 'away', 'ready']) {
    await box.write('etc/little/node', `${node}\n`);
    await becomes(following, 'NodeReady', node === 'ready' ? 'True' : 'False');
  }
  expect(await tries()).toBe(1);
  now += 2 * 3_600_000;
  await waitUntil(async () => (await tries()) === 2, 'the second try, an hour later');
});

test('certificates are renewed before they end, by the agent itself', async () => {
  const { box, lifecycle, service } = await installed(clean);
  await becomes(lifecycle, 'CertificatesValid', 'True', 'Valid');
  await box.write('etc/little/certificate', `${Date.now() + 5 * DAY}\n`);
  await waitUntil(async () => (await service.get()).status.operation?.type === 'RotateCertificates', 'the renewal');
  await settled(lifecycle, 'Provisioned');
  await becomes(lifecycle, 'CertificatesValid', 'True', 'Valid');
  expect((await service.get()).status.operation).toMatchObject({ requestedBy: 'fairlead-agent', phase: 'Succeeded' });
});

test('a renewal that does not help is not repeated at once, and an authority that ends is none of its business', async () => {
  const { box, lifecycle } = await installed(clean);
  await lifecycle.stop();
  await box.program('renew-certificates', 'echo x >> $ROOT/renewals');
  await box.write('etc/little/certificate', `${Date.now() + 5 * DAY}\n`);
  let now = Date.now();
  const again = await box.start({ now: () => new Date(now) });
  const renewals = async () => (await box.read('renewals').catch(() => '')).length / 2;
  const held = async () => (await again.service.reconcilers()).reconciler[1]?.status.includes('renewed again not before') === true;
  await waitUntil(async () => (await renewals()) === 1 && (await held()), 'one renewal and then patience');
  now += 11 * 60_000;
  await waitUntil(async () => (await renewals()) === 2 && (await held()), 'the second');
  now += 11 * 60_000;
  await waitUntil(held, 'patience: the pause doubles');
  expect(await renewals()).toBe(2);
  await becomes(again, 'CertificatesValid', 'True', 'Expiring');
});

test('the threshold of short certificates is the last third of their life', () => {
  const spec = (validityPeriod?: string) => ({
    clusterType: 'kubeadm' as const,
    ...(validityPeriod && { certificates: { validityPeriod } }),
  });
  expect(renewBefore(spec(), 30 * DAY)).toBe(30 * DAY);
  expect(renewBefore(spec('24h'), 30 * DAY)).toBe(8 * 3_600_000);
  expect(renewBefore(spec('8760h'), 300 * DAY)).toBeLessThan(122 * DAY);
  expect(['ca', 'etcd-ca', 'front-proxy-ca', 'etcd/ca'].every(isAuthority)).toBe(true);
  expect(['apiserver', 'admin.conf', 'etcd-server', 'vacation'].some(isAuthority)).toBe(false);
});

test('certificates of no allowed validity end before they are renewed, whenever the looks fall, and though the first try fails', async () => {
  const MINUTE = 60_000;
  const running = signal();
  for (const [validityPeriod, thresholdMs] of [
    ['5m', 30 * DAY],
    ['6m30s', 30 * DAY],
    ['20m', MINUTE],
    ['31m', 30 * DAY],
    ['2h', MINUTE],
    ['24h', 30 * DAY],
  ] as const) {
    const lifeMs = parseDuration(validityPeriod) ?? 0;
    for (let phase = 0; phase < 10; phase++) {
      let now = 0;
      let end = lifeMs + phase * 7_001;
      let renewals = 0;
      let tries = 0;
      const spec = { clusterType: 'kubeadm' as const, certificates: { validityPeriod } };
      const reconciler = certificateReconciler({
        everyMs: 10 * MINUTE,
        thresholdMs,
        state: {
          get: () => ({ phase: 'Provisioned', spec, metadata: {}, wish: undefined, installed: true, conditions: [] }),
          change: async () => undefined,
          observe: () => undefined,
        },
        certificates: async () => [{ name: 'apiserver', expiryDate: new Date(end).toISOString(), remainingDaysToExpire: '0' }],
        seen: () => undefined,
        now: () => new Date(now),
        async renew() {
          expect(end - now, `left of ${validityPeriod} when it is renewed`).toBeGreaterThan(0);
          if (tries++ % 2 === 0) return;
          renewals++;
          end = now + lifeMs;
        },
      });
      while (renewals < 3) {
        await reconciler.run(running);
        const { everyMs } = reconciler;
        now += typeof everyMs === 'number' ? everyMs : everyMs();
      }
    }
  }
});

test('files and sysctls that were changed are shown, and put back when that is asked for', async () => {
  const { box, lifecycle, service } = await installed(clean);
  await becomes(lifecycle, 'FilesUnchanged', 'True');
  const config = await box.read('etc/little/config');
  await box.write('etc/little/config', 'somebody was here\n', 0o640);
  await box.write('proc/sys/net/ipv4/ip_forward', '0\n');
  await becomes(lifecycle, 'FilesUnchanged', 'False', 'Drift');
  await waitUntil(async () => (await service.get()).status.drift?.length === 2, 'both to be seen');
  expect((await service.get()).status.drift).toEqual([
    { path: '/etc/little/config', problem: 'changed' },
    { path: 'net.ipv4.ip_forward', problem: 'changed' },
  ]);
  await service.repair(asking('repair'));
  await settled(lifecycle, 'Provisioned');
  await becomes(lifecycle, 'FilesUnchanged', 'True');
  expect(await box.read('etc/little/config')).toBe(config);
  expect(await box.read('proc/sys/net/ipv4/ip_forward')).toBe('1\n');
  await chmod(`${box.root}/etc/little/config`, 0o666);
  await becomes(lifecycle, 'FilesUnchanged', 'False');
  await rm(`${box.root}/etc/little/config`);
  await waitUntil(async () => (await service.get()).status.drift?.[0]?.problem === 'missing', 'the file to be missed');
  await service.repair(asking('repair-2'));
  await settled(lifecycle, 'Provisioned');
  await becomes(lifecycle, 'FilesUnchanged', 'True');
});

test('files of sysctl.d are read as the system reads them', () => {
  expect(sysctlsOf('# a\n; b\nnet.ipv4.ip_forward = 1\n-kernel/x=2 3\nnet.*.y=1\nno line\n../x=1')).toEqual([
    ['net.ipv4.ip_forward', '1'],
    ['kernel/x', '2 3'],
  ]);
});

test('no reconciler looks while an operation runs; one that fails goes on, and says its trouble once', async () => {
  let busy = true;
  let looksDone = 0;
  const errors: unknown[] = [];
  const loops = reconcilerLoops(
    [
      {
        name: 'one',
        everyMs: 5,
        timeoutMs: 1_000,
        async run() {
          looksDone++;
          if (looksDone < 4) throw new Error('not yet');
          return 'well';
        },
      },
    ],
    { busy: () => busy, onError: (error) => errors.push(error) },
  );
  clean.after(() => loops.stop());
  await waitUntil(() => loops.status()[0]?.status === 'waiting: an operation runs', 'the first look');
  loops.poke('one');
  expect(looksDone).toBe(0);
  busy = false;
  await waitUntil(() => loops.status()[0]?.status === 'well', 'the fourth look');
  expect(errors).toHaveLength(1);
  await loops.stop();
  const after = looksDone;
  loops.poke('one');
  expect(looksDone).toBe(after);
});
