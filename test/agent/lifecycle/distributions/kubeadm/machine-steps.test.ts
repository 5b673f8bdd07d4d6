import { describe, expect, test } from 'vitest';
import { hostnameStep } from '../../../../../src/agent/lifecycle/distributions/common/hostname.ts';
import { kernelModulesStep, sysctlsStep } from '../../../../../src/agent/lifecycle/distributions/common/kernel.ts';
import { LEDGER_FILE } from '../../../../../src/agent/lifecycle/distributions/common/ledger.ts';
import { preflightStep, recordStep, runtimeProblem } from '../../../../../src/agent/lifecycle/distributions/kubeadm/begin.ts';
import { binariesStep, kubeletServiceStep } from '../../../../../src/agent/lifecycle/distributions/kubeadm/binaries.ts';
import {
  containerdPackagesStep,
  containerRuntimeStep,
} from '../../../../../src/agent/lifecycle/distributions/kubeadm/container-runtime.ts';
import type { Facts } from '../../../../../src/agent/lifecycle/machine/machine.ts';
import type { ClusterSpec } from '../../../../../src/kube/lifecycle.ts';
import { cleanUp } from '../../../../support/clean-up.ts';
import { brief, commands, type MachineFolder, machineFolder } from './machine-folder.ts';

import { spec, usualMachine } from './usual-machine.ts';

const clean = cleanUp();
const usual = (facts?: Partial<Facts>, artifacts?: Record<string, string>) => usualMachine(clean, facts, artifacts);

describe('preflight', () => {
  test('a usual machine is well, and nothing is changed', async () => {
    const box = await usual();
    expect(await preflightStep().run(box.context(spec()))).toEqual([]);
  });

  test.each<[string, (box: MachineFolder) => Promise<void>, Partial<Facts>, string]>([
    ['a cluster', (box) => box.write('etc/kubernetes/admin.conf', 'x'), {}, 'there is a cluster on the machine'],
    ["another agent's static pods", (box) => box.write('etc/kubernetes/manifests/x.yaml', 'x'), {}, 'static pods'],
    ["etcd's data", (box) => box.write('var/lib/etcd/member/snap/db', 'x'), {}, '/var/lib/etcd/member'],
    ['k3s', (box) => box.write('etc/rancher/k3s/k3s.yaml', 'x'), {}, 'k3s.yaml'],
    ['too little memory', async () => undefined, { memoryBytes: 1e9 }, '1000 MB of memory'],
    ['no address', async () => undefined, { addresses: [] }, 'no address'],
    ['a name that no node can have', async () => undefined, { hostname: 'my_host' }, "cannot be a node's name"],
    ['a taken port', (box) => box.write('proc/net/tcp6', 'heading\n 0: 00000000:192B 00000000:0000 0A 0\n'), {}, 'port 6443'],
    [
      'a containerd that is not ours, without systemd',
      (box) => box.machine.remove('/run/active/containerd'),
      { initSystem: 'none' },
      'started by somebody else',
    ],
    ['a kernel without overlay', (box) => box.write('proc/filesystems', 'ext4\n'), {}, 'the kernel has no overlay'],
  ])('refuses %s', async (_, prepare, facts, message) => {
    const box = await usual(facts);
    await prepare(box);
    await expect(preflightStep().run(box.context(spec()))).rejects.toThrow(message);
  });

  test('names everything that is wrong at once', async () => {
    const box = await usual({ memoryBytes: 1e9 });
    await box.write('proc/net/tcp', 'heading\n 0: 0100007F:094B 00000000:0000 0A 0\n 1: 0100007F:094C 00000000:0000 01 0\n');
    await expect(preflightStep().run(box.context(spec()))).rejects.toThrow(/memory.*port 2379:/);
  });

  test('one CPU and swap are tolerated', async () => {
    const box = await usual({ cpus: 1, swap: true });
    expect(await preflightStep().run(box.context(spec()))).toEqual([]);
  });

  test.each([
    ['containerd x v1.6.20 y', 'v1.36.3', undefined],
    ['containerd x 1.6.20~ds1 y', 'v1.37.0', 'too old'],
    ['containerd x v2.1.0 y', 'v1.37.0', undefined],
    [undefined, 'v1.37.0', undefined],
  ])('runtime %s for %s', (containerd, version, problem) => {
    const found = runtimeProblem(containerd, version);
    if (problem === undefined) expect(found).toBeUndefined();
    else expect(found).toContain(problem);
  });
});

test('record keeps what undo needs, where only root reads it', async () => {
  const box = await usual();
  await box.write('images', 'docker.io/library/mine:1\n');
  await box.take(recordStep(), box.context(spec()));
  expect(JSON.parse((await box.machine.read(LEDGER_FILE)) ?? '')).toMatchObject({
    sysctls: { 'net.ipv4.ip_forward': '0', 'vm.overcommit_memory': '0' },
    interfaces: ['lo', 'eth0'],
    images: ['docker.io/library/mine:1'],
    packages: [],
    containerd: { active: true, enabled: true, config: { content: 'version = 2\n# of the package\n', mode: 0o640 } },
  });
  expect((await box.machine.stat(LEDGER_FILE))?.mode).toBe(0o600);
});

describe('hostname', () => {
  test('gets a line where nothing knows it', async () => {
    const box = await usual({ hostname: 'edge-9.invalid' });
    await box.program('tee', 'cat >> $ROOT$2');
    await box.program('sync', '');
    const context = box.context(spec());
    await box.take(hostnameStep(), context);
    expect(await box.machine.read('/etc/hosts')).toBe('127.0.0.1 localhost\n192.0.2.10 edge-9.invalid\n');
    expect(await hostnameStep().check(context)).toBe(true);
  });
  test.each<[string | undefined, string]>([
    ['127.0.0.1 localhost', '\n192.0.2.10 edge-9.invalid\n'],
    ['', '192.0.2.10 edge-9.invalid\n'],
    [undefined, '127.0.0.1 localhost\n192.0.2.10 edge-9.invalid\n'],
  ])('after %j it begins a line of its own', async (hosts, input) => {
    const box = await usual({ hostname: 'edge-9.invalid' });
    if (hosts === undefined) await box.machine.remove('/etc/hosts');
    else await box.write('etc/hosts', hosts);
    const actions = await hostnameStep().run(box.context(spec()));
    expect(actions[1]).toMatchObject({ kind: 'command', command: { argv: ['tee', '-a', '/etc/hosts'], input } });
  });
  test("somebody's own line in the file was drift for ever, because the agent had written the whole of it", async () => {
    const box = await usual({ hostname: 'edge-9.invalid' });
    const actions = await hostnameStep().run(box.context(spec()));
    // What is claimed is put back, and not watched.
    expect(actions.map(({ kind }) => kind)).toEqual(['claim', 'command', 'command']);
  });
  test('a comment does not count', async () => {
    const box = await usual({ hostname: 'edge-9.invalid' });
    await box.write('etc/hosts', '127.0.0.1 localhost # edge-9.invalid\n');
    expect(await hostnameStep().check(box.context(spec()))).toBe(false);
  });
});

describe('kernel', () => {
  test('built-in modules need nothing', async () => {
    const box = await usual();
    expect(await kernelModulesStep().check(box.context(spec()))).toBe(true);
  });
  test('a module that is missing is loaded now and at each start, and unloaded by undo if it was not there before', async () => {
    const box = await usual();
    await box.write('proc/filesystems', 'ext4\n');
    await box.write('proc/modules', 'br_netfilter 1 0 - Live 0x0\n');
    await box.program(
      'modprobe',
      '[ "$1" = overlay ] && echo overlay > $ROOT/proc/filesystems && echo "overlay 1 0" >> $ROOT/proc/modules; true',
    );
    const context = box.context(spec());
    await box.perform(await recordStep().run(context));
    await box.calls();
    await box.take(kernelModulesStep(), context);
    expect(await box.machine.read('/etc/modules-load.d/fairlead-cluster.conf')).toBe('overlay\n');
    expect(await box.calls()).toEqual(['modprobe overlay']);
    // Asked again with the module loaded, as by a repair: an empty file came of it.
    const [again] = await kernelModulesStep().run(box.context(spec(), { before: spec() }));
    expect(again).toMatchObject({ kind: 'write', content: 'overlay\n' });
    expect(brief(await kernelModulesStep().undo(context))).toEqual(['modprobe -r overlay']);
  });
  test('cut after the first module was loaded, the file lost it', async () => {
    const box = await usual();
    await box.write('proc/filesystems', 'ext4\n');
    await box.machine.remove('/proc/sys/net/bridge');
    const context = box.context(spec());
    await box.perform(await recordStep().run(context));
    await box.write('proc/filesystems', 'overlay\n');
    await box.write('proc/modules', 'overlay 1 0 - Live 0x0\n');
    const actions = await kernelModulesStep().run(context);
    expect(actions[0]).toMatchObject({ kind: 'write', content: 'overlay\nbr_netfilter\n' });
    expect(commands(actions)).toEqual(['modprobe br_netfilter']);
  });
  test('sysctls: now, at each start, and back by undo, with those that others changed', async () => {
    const box = await usual();
    const context = box.context(spec());
    await box.perform(await recordStep().run(context));
    const step = sysctlsStep(false);
    await box.take(step, context);
    expect(await step.check(context)).toBe(true);
    expect(await box.machine.read('/proc/sys/net/ipv4/ip_forward')).toBe('1\n');
    await box.write('proc/sys/vm/overcommit_memory', '1\n');
    expect(brief(await step.undo(context)).sort()).toEqual(['sysctl -w net.ipv4.ip_forward=0', 'sysctl -w vm.overcommit_memory=0']);
    await box.perform(await step.undo(context));
    expect(await box.machine.read('/proc/sys/net/ipv4/ip_forward')).toBe('0\n');
    expect(await step.undo(context)).toEqual([]);
  });
  test('dual stack forwards IPv6', async () => {
    const box = await usual();
    await box.write('proc/sys/net/ipv6/conf/all/forwarding', '0\n');
    await box.write('proc/sys/net/bridge/bridge-nf-call-ip6tables', '0\n');
    const context = box.context(spec());
    await box.take(sysctlsStep(true), context);
    expect(await box.machine.read('/proc/sys/net/ipv6/conf/all/forwarding')).toBe('1\n');
  });
});

describe('containerd', () => {
  test('is left alone where it is installed', async () => {
    const box = await usual();
    expect(await containerdPackagesStep().check(box.context(spec()))).toBe(true);
  });

  test.each<[string, Partial<Facts>, Record<string, string>, Partial<ClusterSpec>, string[]]>([
    [
      'packages of the artifacts',
      {},
      { 'packages/containerd.deb': '', 'packages/runc.deb': '', 'packages/other.rpm': '' },
      { artifacts: { source: '/a' } },
      ['dpkg --install FOLDER/packages/containerd.deb FOLDER/packages/runc.deb'],
    ],
    ['apt', {}, {}, {}, ['apt-get install -y --no-install-recommends containerd runc']],
    ['dnf', { packageManager: 'dnf' }, {}, {}, ['dnf install -y containerd runc']],
    [
      'rpm of the artifacts',
      { packageManager: 'dnf' },
      { 'packages/a.rpm': '' },
      { artifacts: { source: '/a' } },
      ['rpm -i FOLDER/packages/a.rpm'],
    ],
  ])('comes by %s', async (_, facts, artifacts, more, wanted) => {
    const box = await machineFolder(clean, facts, artifacts);
    const context = box.context(spec(more));
    expect(await containerdPackagesStep().check(context)).toBe(false);
    expect(commands(await containerdPackagesStep().run(context)).map((line) => line.replaceAll(context.folder, 'FOLDER'))).toEqual(wanted);
  });

  test('nothing is fetched from elsewhere when the artifacts lack it', async () => {
    const box = await machineFolder(clean);
    const source = 'https://mirror.example.com/kubernetes?signature=hidden-word';
    const failed = containerdPackagesStep().run(box.context(spec({ artifacts: { source } })));
    await expect(failed).rejects.toThrow('the source of artifacts has no packages/*.deb');
    await expect(failed).rejects.not.toThrow('hidden-word');
  });

  test("the agent's flag --artifacts did not keep apt-get from the Internet", async () => {
    const box = await machineFolder(clean, {}, { 'kubernetes/v1.36.3/bin/kubelet': '' });
    await expect(containerdPackagesStep().run(box.context(spec()))).rejects.toThrow('the source of artifacts has no packages/*.deb');
  });

  test('undo removes exactly the packages that it brought', async () => {
    const box = await machineFolder(clean);
    const context = box.context(spec());
    await box.perform(await recordStep().run(context));
    await box.program('containerd', '');
    await box.program('runc', '');
    await box.program('dpkg', 'case "$2" in */containerd) echo "containerd.io: $2";; *) echo "runc: $2";; esac');
    expect(brief(await containerdPackagesStep().undo(context))).toEqual(['dpkg --purge containerd.io runc', 'daemon-reload containerd']);
  });

  test('is configured, and gets its own configuration back by undo', async () => {
    const box = await usual({ mayRaiseLimits: false, cgroup: 1 });
    const context = box.context(spec());
    await box.perform(await recordStep().run(context));
    await box.calls();
    await box.take(containerRuntimeStep(), context);
    const text = (await box.machine.read('/etc/containerd/config.toml')) ?? '';
    expect(text).toContain('sandbox_image = "registry.k8s.io/pause:3.10.2"');
    expect(text).toContain('restrict_oom_score_adj = true');
    expect(text).toContain('SystemdCgroup = false');
    expect(await box.calls()).toEqual(expect.arrayContaining([expect.stringMatching(/^systemctl restart containerd/)]));
    await box.perform(await containerRuntimeStep().undo(context));
    expect(await box.machine.read('/etc/containerd/config.toml')).toBe('version = 2\n# of the package\n');
    expect((await box.machine.stat('/etc/containerd/config.toml'))?.mode).toBe(0o640);
    expect(await box.calls()).toEqual(expect.arrayContaining([expect.stringMatching(/^systemctl restart containerd/)]));
  });

  test('a containerd that had never run left the folder that it makes at its first start', async () => {
    const box = await usual();
    expect(brief(await containerRuntimeStep().run(box.context(spec())))[1]).toBe('claim /etc/cni');
    await box.write('etc/cni/net.d/10-mine.conf', '');
    expect(brief(await containerRuntimeStep().run(box.context(spec())))).not.toContain('claim /etc/cni');
  });

  test('with its files written and not yet restarted it is not done', async () => {
    const box = await usual();
    const context = box.context(spec());
    const actions = await containerRuntimeStep().run(context);
    const restart = actions.findIndex((action) => action.kind === 'service' && action.change === 'restart');
    await box.perform(actions.slice(0, restart));
    await box.program('containerd', 'case "$*" in --version) echo "containerd x 1.7.2 y";; *) cat $ROOT/etc/containerd/config.toml;; esac');
    expect(await containerRuntimeStep().check(context)).toBe(false);
    await box.perform(actions);
    expect(await containerRuntimeStep().check(context)).toBe(true);
  });

  test('a password stands in a file that only root reads, and is marked as secret', async () => {
    const box = await usual();
    const clusterCri = {
      privateRegistryFQDN: 'r.example.com',
      registryAuth: { isAuthRequired: true, username: 'jane', password: 'hidden-word' },
    };
    const actions = await containerRuntimeStep().run(box.context(spec({ clusterRuntime: { customiseClusterRuntime: true, clusterCri } })));
    const holding = actions.filter((action) => JSON.stringify(action).includes('hidden-word'));
    expect(holding).toEqual([expect.objectContaining({ kind: 'write', path: '/etc/containerd/config.toml', mode: 0o600, secret: true })]);
  });

  test('a configuration with a password was made anew from what somebody had made of it, and could not be repaired', async () => {
    const box = await usual();
    const clusterCri = {
      privateRegistryFQDN: 'r.example.com',
      registryAuth: { isAuthRequired: true, username: 'jane', password: 'hidden-word' },
    };
    const wanted = spec({ clusterRuntime: { customiseClusterRuntime: true, clusterCri } });
    await box.take(containerRuntimeStep(), box.context(wanted));
    const written = await box.machine.read('/etc/containerd/config.toml');
    expect(written).toContain('hidden-word');
    expect(await box.machine.read('/var/lib/fairlead-cluster/containerd.toml')).not.toContain('hidden-word');
    await box.write('etc/containerd/config.toml', 'version = 2\n[plugins]\n  [plugins.mine]\n    mine = true\n');
    await box.program('containerd', 'case "$*" in --version) echo "containerd x 1.7.2 y";; *) cat $ROOT/etc/containerd/config.toml;; esac');
    const again = await containerRuntimeStep().run(box.context(wanted, { before: wanted }));
    expect(again.find((action) => action.kind === 'write' && action.path === '/etc/containerd/config.toml')).toMatchObject({
      content: written,
      mode: 0o600,
    });
  });

  test('a registry that is no longer wanted takes its credentials and hosts along', async () => {
    const box = await usual();
    const clusterCri = {
      privateRegistryFQDN: 'r.example.com',
      registryAuth: { isAuthRequired: true, username: 'jane', password: 'hidden-word' },
    };
    const before = spec({ clusterRuntime: { customiseClusterRuntime: true, clusterCri } });
    await box.take(containerRuntimeStep(), box.context(before));
    await box.program('containerd', 'case "$*" in --version) echo "containerd x 1.7.2 y";; *) cat $ROOT/etc/containerd/config.toml;; esac');
    expect(await box.machine.read('/etc/containerd/config.toml')).toContain('hidden-word');
    const context = box.context(spec(), { before });
    await box.take(containerRuntimeStep('runtime-settings'), context);
    expect(await box.machine.read('/etc/containerd/config.toml')).not.toContain('hidden-word');
    expect(await box.machine.stat('/etc/containerd/certs.d/r.example.com')).toBeUndefined();
    expect(await containerRuntimeStep('runtime-settings').check(context)).toBe(true);
  });
});

describe('programs and units', () => {
  test('are fetched when they are not of the wanted version', async () => {
    const box = await usual();
    const step = binariesStep('binaries', ['kubeadm', 'kubelet', 'kubectl']);
    const context = box.context(spec());
    expect(await step.check(context)).toBe(false);
    expect(brief(await step.run(context))).toEqual(['fetch /usr/bin/kubeadm', 'fetch /usr/bin/kubelet', 'fetch /usr/bin/kubectl']);
    await expect(step.verify(context)).rejects.toThrow('kubelet v1.36.3 is wanted, but the PATH has none that runs');
    for (const name of ['kubelet', 'kubectl']) await box.program(name, 'echo "Kubernetes v1.36.3"');
    await step.verify(context);
    expect(await step.check(context)).toBe(true);
    await box.program('kubelet', 'echo "Kubernetes v1.35.4"');
    await expect(step.verify(context)).rejects.toThrow('bin/kubelet has v1.35.4');
  });

  test("the kubelet's unit is written and enabled, not started; undo removes it", async () => {
    const box = await usual();
    const context = box.context(spec());
    await box.take(kubeletServiceStep(), context);
    expect(await kubeletServiceStep().check(context)).toBe(true);
    expect(await box.machine.services.active('kubelet')).toBe(false);
    expect(await box.machine.read('/etc/systemd/system/kubelet.service.d/10-kubeadm.conf')).toContain('$KUBELET_KUBEADM_ARGS');
    await box.perform(await kubeletServiceStep().undo(context));
    expect(await box.machine.stat('/etc/systemd/system/kubelet.service')).toBeUndefined();
    expect(await kubeletServiceStep().undo(context)).toEqual([]);
  });

  test('where there is no init system the kubelet was started before its files were there, and the install failed', async () => {
    const box = await usual({ initSystem: 'none' });
    expect(brief(await kubeletServiceStep().run(box.context(spec()))).at(-1)).toBe('enable kubelet');
  });
});
