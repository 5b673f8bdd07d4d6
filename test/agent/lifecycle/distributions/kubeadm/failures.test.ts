import { describe, expect, test } from 'vitest';
import { kubeadm } from '../../../../../src/agent/lifecycle/distributions/kubeadm/kubeadm.ts';
import type { Step } from '../../../../../src/agent/lifecycle/operations/step.ts';
import type { ClusterSpec } from '../../../../../src/kube/lifecycle.ts';
import { cleanUp } from '../../../../support/clean-up.ts';
import { difference } from '../../operations/walk.ts';
import { standIn } from './stand-in.ts';
import { spec } from './usual-machine.ts';

const clean = cleanUp();
const names = (steps: readonly Step[]) => steps.map(({ name }) => name);
const asTheyAre = (steps: Step[]) => steps;
/** The step does everything that it does, and then fails. */
const breaking = (broken: string) => (steps: Step[]) =>
  steps.map((step) =>
    step.name === broken
      ? {
          ...step,
          check: async () => false,
          verify: async () => {
            throw new Error('the test breaks it');
          },
        }
      : step,
  );
const undone = (step: string) => ({ phase: 'Failed', message: expect.stringMatching(`^step ${step} failed: .*everything was undone$`) });

const SMALL = spec({ storage: { clusterCsi: { name: 'local-path' } } });
const LARGE: ClusterSpec = { ...SMALL, disableWorkloads: true };

describe('kubeadm (stand-ins of all programs): whatever fails is undone', { timeout: 300_000 }, () => {
  test('install: each step fails, and the machine is as before', async () => {
    const { run, tree } = await standIn(clean);
    const pristine = await tree();
    for (const step of names(kubeadm.install(LARGE))) {
      expect(await run('Install', LARGE, undefined, breaking(step)), step).toMatchObject(undone(step));
      expect(difference(await tree(), pristine), step).toBeUndefined();
    }
  });

  test('delete: the machine is as before the install', async () => {
    const { run, tree } = await standIn(clean);
    const pristine = await tree();
    expect(await run('Install', LARGE, undefined, asTheyAre)).toMatchObject({ phase: 'Succeeded' });
    expect(difference(await tree(), pristine)).toBeDefined();
    expect(await run('Delete', LARGE, LARGE, asTheyAre)).toMatchObject({ phase: 'Succeeded' });
    expect(difference(await tree(), pristine)).toBeUndefined();
  });

  test('repair: what somebody changed is as it was written, and the rest of /etc/hosts stays theirs', async () => {
    const { box, run, tree } = await standIn(clean);
    const registryAuth = { isAuthRequired: true, username: 'jane', password: 'hidden-word' };
    const clusterCri = { privateRegistryFQDN: 'r.example.com:5000', registryAuth };
    const wanted = { ...spec(), clusterRuntime: { customiseClusterRuntime: true, clusterCri } };
    expect(await run('Install', wanted, undefined, asTheyAre)).toMatchObject({ phase: 'Succeeded' });
    await box.program('containerd', 'case "$*" in --version) echo "containerd x 1.7.2 y";; *) cat $ROOT/etc/containerd/config.toml;; esac');
    await box.write('etc/hosts', `${await box.machine.read('/etc/hosts')}192.0.2.99 theirs\n`);
    const before = await tree();
    for (const path of ['etc/containerd/config.toml', 'opt/cni/bin/bridge', 'etc/sysctl.d/99-fairlead-cluster.conf', 'usr/bin/kubelet'])
      await box.write(path, `${await box.machine.read(`/${path}`)}# changed\n`, (await box.machine.stat(`/${path}`))?.mode);
    expect(difference(await tree(), before)).toBeDefined();
    expect(await run('Repair', wanted, wanted, asTheyAre)).toMatchObject({ phase: 'Succeeded' });
    expect(difference(await tree(), before)).toBeUndefined();
  });

  test('patch: each step fails, and the cluster is as before', async () => {
    const { run, tree } = await standIn(clean);
    expect(await run('Install', SMALL, undefined, asTheyAre)).toMatchObject({ phase: 'Succeeded' });
    const before = await tree();
    const clusterRuntime = { customiseClusterRuntime: true, clusterCri: { privateRegistryFQDN: 'r.example.com:5000' } };
    const patched: ClusterSpec = {
      ...LARGE,
      clusterRuntime,
      apiServer: { certSANs: ['other.example.com'] },
      extraArgs: { 'apiServer.v': '2', 'etcd.log-level': 'warn', 'kubelet.v': '2' },
    };
    for (const step of names(kubeadm.patch(patched, SMALL))) {
      expect(await run('Patch', patched, SMALL, breaking(step)), step).toMatchObject(undone(step));
      expect(difference(await tree(), before), step).toBeUndefined();
    }
    expect(await run('Patch', patched, SMALL, asTheyAre)).toMatchObject({ phase: 'Succeeded' });
    expect(difference(await tree(), before)).toBeDefined();
  });
});
