import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openAuditLog } from '../../../../src/agent/lifecycle/audit/audit-log.ts';
import { verifyChain } from '../../../../src/kube/audit-chain.ts';
import type { AgentCluster, OperationPlan } from '../../../../src/kube/lifecycle.ts';
import { cleanUp } from '../../../support/clean-up.ts';
import { waitUntil } from '../../../support/wait-until.ts';
import { asking, cluster, installed, sandbox, settled } from '../support/sandbox.ts';

const clean = cleanUp();
const statusOf = (cluster: AgentCluster, type: string) => cluster.status.conditions?.find((condition) => condition.type === type)?.status;

test('a machine without a cluster is NotInitialised, and what needs one is refused without a change of the phase', async () => {
  const box = await sandbox(clean);
  const { service } = await box.start();
  expect((await service.get()).status).toMatchObject({ phase: 'NotInitialised', bootID: 'boot-1' });
  expect((await service.get()).spec).toBeUndefined();
  const change = asking('x');
  for (const call of [
    () => service.upgrade(cluster({ version: 'v1.36.3' }), change),
    () => service.patch(cluster(), change),
    () => service.rotateCertificates(change),
    () => service.repair(change),
  ]) {
    await expect(call()).rejects.toMatchObject({ status: { code: 409, message: expect.stringContaining('NotInitialised') } });
  }
  for (const call of [() => service.delete(change), () => service.certificates(), () => service.kubeconfig(change.requester)]) {
    await expect(call()).rejects.toMatchObject({ status: { code: 404 } });
  }
  expect((await service.get()).status.phase).toBe('NotInitialised');
  expect((await service.audit()).operations).toEqual([]);
});

test('create, upgrade, patch, rotate, delete, create again: phases, conditions and two entries each', async () => {
  const box = await sandbox(clean);
  const lifecycle = await box.start();
  const { service } = lifecycle;
  const begun = (await service.create(cluster(), asking('a-1'))) as AgentCluster;
  expect(begun).toMatchObject({ status: { phase: 'Provisioning' }, spec: { version: 'v1.35.4' }, metadata: { owner: 'edge' } });
  expect(begun.status.operation).toMatchObject({ type: 'Install', requestedBy: 'jane', auditID: 'a-1' });
  await expect(service.create(cluster(), asking('a-2'))).rejects.toMatchObject({
    status: { code: 409, message: expect.stringMatching(/operation Install .* jane .* running/) },
  });
  await settled(lifecycle, 'Provisioned');
  await waitUntil(async () => statusOf(await service.get(), 'ClusterReady') === 'True', 'the cluster to be ready');
  expect((await service.get()).status).toMatchObject({ kubernetesVersion: 'v1.35.4', kubeletVersion: 'v1.35.4', unschedulable: false });
  await expect(service.create(cluster(), asking('a-3'))).rejects.toMatchObject({
    status: { code: 409, message: expect.stringContaining('has a cluster already') },
  });
  expect((await service.kubeconfig(asking('k').requester)).contents).toBe('kubeconfig of v1.35.4\n');
  expect((await service.certificates()).CertsInfo).toHaveLength(2);

  expect(await service.upgrade({ spec: { version: 'v1.36.3' } }, asking('u-1'))).toMatchObject({
    status: { phase: 'Upgrading' },
    spec: { version: 'v1.36.3' },
  });
  await settled(lifecycle, 'Provisioned');
  expect(await service.get()).toMatchObject({ spec: { version: 'v1.36.3' } });
  expect(await box.read('etc/little/version')).toBe('v1.36.3\n');
  // The same again is nothing to do.
  expect(((await service.upgrade({ spec: { version: '1.36.3' } }, asking('u-2'))) as AgentCluster).status.operation?.auditID).toBe('u-1');

  await service.patch({ spec: { apiServer: { certSANs: ['edge.example'] } } }, asking('p-1'));
  await settled(lifecycle, 'Provisioned');
  expect(await box.read('etc/little/config')).toContain('sans=edge.example');
  const before = await box.read('etc/little/certificate');
  expect(((await service.rotateCertificates(asking('r-1'))) as AgentCluster).status.phase).toBe('KubeConfigResetting');
  await settled(lifecycle, 'Provisioned');
  expect(await box.read('etc/little/certificate')).not.toBe(before);

  expect(((await service.delete(asking('d-1'))) as AgentCluster).status.phase).toBe('Deleting');
  await settled(lifecycle, 'Deleted');
  expect((await service.get()).spec).toBeUndefined();
  expect(statusOf(await service.get(), 'DeleteSuccess')).toBe('True');
  await expect(box.read('etc/little/config')).rejects.toMatchObject({ code: 'ENOENT' });
  await service.create(cluster(), asking('a-4'));
  await settled(lifecycle, 'Provisioned');

  const { operations } = await service.audit();
  expect(verifyChain(operations)).toEqual({ ok: true });
  expect(operations.map(({ operation, Status, auditID }) => `${operation} ${Status} ${auditID}`)).toEqual([
    'Install In Progress a-1',
    'Install Completed a-1',
    'Kubeconfig Completed k',
    'Upgrade In Progress u-1',
    'Upgrade Completed u-1',
    'Patch In Progress p-1',
    'Patch Completed p-1',
    'Reset Certs In Progress r-1',
    'Reset Certs Completed r-1',
    'Reset In Progress d-1',
    'Reset Completed d-1',
    'Install In Progress a-4',
    'Install Completed a-4',
  ]);
  expect(operations.every(({ requestedBy }) => requestedBy === 'jane')).toBe(true);
  expect(box.errors).toEqual([]);
});

test('an installation that fails is undone and can be asked for again; a failed upgrade leaves the cluster as it was', async () => {
  const box = await sandbox(clean);
  const lifecycle = await box.start();
  const { service } = lifecycle;
  await box.write('bin/kept', await box.read('bin/make-cluster'), 0o755);
  await box.program('make-cluster', 'echo "the disk is made of cheese" >&2; exit 3');
  await service.create(cluster(), asking('a-1'));
  await settled(lifecycle, 'Failed');
  const failed = await service.get();
  expect(failed.status.operation?.message).toContain('the disk is made of cheese');
  expect(statusOf(failed, 'InstallSuccess')).toBe('False');
  await expect(box.read('etc/little/config')).rejects.toMatchObject({ code: 'ENOENT' });
  await box.write('bin/make-cluster', await box.read('bin/kept'), 0o755);
  await service.create(cluster(), asking('a-2'));
  await settled(lifecycle, 'Provisioned');

  const good = await box.read('bin/upgrade-cluster');
  await box.program('upgrade-cluster', `[ "$1" = v1.36.3 ] && { echo "no such image" >&2; exit 1; }\necho "$1" > $ROOT/etc/little/version`);
  await service.upgrade({ spec: { version: 'v1.36.3' } }, asking('u-1'));
  await settled(lifecycle, 'Provisioned');
  const after = await service.get();
  expect(after).toMatchObject({ spec: { version: 'v1.35.4' }, status: { operation: { phase: 'Failed' } } });
  expect(statusOf(after, 'UpgradeSuccess')).toBe('False');
  const { operations } = await service.audit();
  expect(operations.at(-1)).toMatchObject({ operation: 'Upgrade', Status: 'Failed', message: expect.stringContaining('no such image') });
  await box.write('bin/upgrade-cluster', good, 0o755);
  await service.upgrade({ spec: { version: 'v1.36.3' } }, asking('u-2'));
  await settled(lifecycle, 'Provisioned');
  expect(statusOf(await service.get(), 'UpgradeSuccess')).toBe('True');
});

test('a dry run answers the exact commands and files, changes nothing and leaves no entry', async () => {
  const box = await sandbox(clean);
  const { service } = await box.start();
  const plan = (await service.create(cluster(), asking('a', true))) as OperationPlan;
  expect(plan).toMatchObject({ kind: 'OperationPlan', operation: 'Install' });
  expect(plan.actions.find(({ kind }) => kind === 'write')).toMatchObject({
    step: 'write-configuration',
    path: '/etc/little/config',
    mode: '0640',
  });
  expect(plan.actions.some(({ argv }) => argv?.[0] === 'make-cluster')).toBe(true);
  expect((await service.get()).status.phase).toBe('NotInitialised');
  await expect(box.read('etc/little/config')).rejects.toMatchObject({ code: 'ENOENT' });
  expect((await service.audit()).operations).toEqual([]);
});

test('what was asked for survives a restart of the agent; an operation in its middle is taken up again', async () => {
  const box = await sandbox(clean);
  const first = await box.start();
  const good = await box.read('bin/make-cluster');
  await box.program('make-cluster', 'touch $ROOT/began; sleep 60');
  await first.service.create(cluster(), asking('a-1'));
  await waitUntil(
    async () =>
      await box.read('began').then(
        () => true,
        () => false,
      ),
    'the step to begin',
  );
  await first.stop();
  await box.write('bin/make-cluster', good, 0o755);
  const second = await box.start();
  expect((await second.service.get()).metadata).toEqual({ owner: 'edge' });
  await settled(second, 'Provisioned');
  const { operations } = await second.service.audit();
  expect(operations.map(({ Status }) => Status)).toEqual(['In Progress', 'Completed']);
  expect((await second.service.get()).status.operation?.resumed).toBe(1);
  await second.stop();
  const third = await box.start();
  expect(await third.service.get()).toMatchObject({
    spec: { version: 'v1.35.4' },
    metadata: { owner: 'edge' },
    status: { phase: 'Provisioned' },
  });
  expect(verifyChain((await third.service.audit()).operations)).toEqual({ ok: true });
});

test('the password of a registry is kept in a file of root, and nowhere else', async () => {
  const secret = 'correct horse battery';
  const clusterRuntime = {
    customiseClusterRuntime: true,
    clusterCri: { privateRegistryFQDN: 'registry.example:5000', registryAuth: { isAuthRequired: true, username: 'bob', password: secret } },
  };
  const { box, lifecycle, service } = await installed(clean, {}, { clusterRuntime });
  const shown = (await service.get()).spec?.clusterRuntime?.clusterCri?.registryAuth;
  expect(shown).toEqual({ isAuthRequired: true, username: 'bob' });
  // A patch of something else keeps it, a dry run does not leave one behind.
  await service.patch({ spec: { apiServer: { certSANs: ['a.example'] } } }, asking('p'));
  await settled(lifecycle, 'Provisioned');
  await service.patch({ spec: { clusterRuntime: { clusterCri: { registryAuth: { password: 'another one' } } } } }, asking('p2', true));
  const folder = join(box.stateDir, 'lifecycle');
  const secrets = await readdir(join(folder, 'secrets'));
  expect(secrets).toHaveLength(1);
  expect(await readFile(join(folder, 'secrets', secrets[0] ?? ''), 'utf8')).toBe(secret);
  const leaks: string[] = [];
  for (const entry of await readdir(box.stateDir, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isFile() && !path.includes('/secrets/') && (await readFile(path)).includes(secret)) leaks.push(path);
  }
  expect(leaks).toEqual([]);
  // Removing it removes the file.
  await service.patch({ spec: { clusterRuntime: { clusterCri: { registryAuth: null } } } }, asking('p3'));
  await settled(lifecycle, 'Provisioned');
  await waitUntil(async () => (await readdir(join(folder, 'secrets'))).length === 0, 'the file to be gone');
});

test('a restart of the machine is done when it is back with another boot id and its node is Ready', async () => {
  const { box, lifecycle, service } = await installed(clean);
  // The machine takes the agent down with it: the command never comes back.
  await box.program('reboot', 'touch $ROOT/rebooting; sleep 60');
  await service.restart(asking('restart'));
  await waitUntil(
    async () =>
      await box.read('rebooting').then(
        () => true,
        () => false,
      ),
    'the restart to begin',
  );
  await lifecycle.stop();
  await box.write('etc/little/node', 'starting\n');
  await box.write('proc/sys/kernel/random/boot_id', 'boot-2\n');
  const back = await box.start();
  const steps = async () => (await back.service.get()).status.operation?.steps.map(({ name, state }) => `${name} ${state}`);
  await waitUntil(async () => (await steps())?.includes('wait-ready Running') === true, 'the wait for the node');
  await box.write('etc/little/node', 'ready\n');
  await settled(back, 'Provisioned');
  expect((await back.service.get()).status).toMatchObject({ bootID: 'boot-2', operation: { type: 'Restart', phase: 'Succeeded' } });
});

test('what was written down and never begun, because the agent died in between, is ended in the history at the next start', async () => {
  const { box, lifecycle } = await installed(clean);
  await lifecycle.stop();
  const log = await openAuditLog(join(box.stateDir, 'lifecycle/audit'));
  const common = { clusterType: 'kubeadm', currentVersion: 'v1.36.3', requestedBy: 'jane', auditID: 'lost', operationID: '' };
  await log.append({
    operation: 'Upgrade',
    Status: 'In Progress',
    reason: 'Requested',
    message: '',
    lastExecuted: new Date().toISOString(),
    ...common,
  });
  await log.close();
  const again = await box.start();
  const { operations } = await again.service.audit();
  expect(operations.at(-1)).toMatchObject({
    operation: 'Upgrade',
    Status: 'Failed',
    reason: 'NotBegun',
    auditID: 'lost',
    requestedBy: 'jane',
  });
  expect(verifyChain(operations)).toEqual({ ok: true });
  expect((await again.service.get()).status.phase).toBe('Provisioned');
});

test('a state that is not what the agent wrote is refused: going on would forget a cluster', async () => {
  const { box, lifecycle } = await installed(clean);
  await lifecycle.stop();
  await box.write('var/lib/fairlead-agent/lifecycle/cluster.json', '{"version":1');
  await expect(box.start()).rejects.toThrow('cluster.json is not what the agent wrote');
});

test('of many that ask at once one begins; the others are refused and leave no entry', async () => {
  const box = await sandbox(clean);
  const lifecycle = await box.start();
  const answers = await Promise.allSettled(Array.from({ length: 20 }, (_, at) => lifecycle.service.create(cluster(), asking(`a-${at}`))));
  expect(answers.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  for (const answer of answers) if (answer.status === 'rejected') expect(answer.reason).toMatchObject({ status: { code: 409 } });
  await settled(lifecycle, 'Provisioned');
  expect((await lifecycle.service.audit()).operations.map(({ Status }) => Status)).toEqual(['In Progress', 'Completed']);
});
