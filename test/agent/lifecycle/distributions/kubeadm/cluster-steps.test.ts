import { describe, expect, test } from 'vitest';
import { recordStep } from '../../../../../src/agent/lifecycle/distributions/kubeadm/begin.ts';
import { bridgeStep, cniPluginsStep } from '../../../../../src/agent/lifecycle/distributions/kubeadm/cni.ts';
import { imagesOfLedger, imagesStep } from '../../../../../src/agent/lifecycle/distributions/kubeadm/images.ts';
import { controlPlaneStep } from '../../../../../src/agent/lifecycle/distributions/kubeadm/init.ts';
import { kubeadm } from '../../../../../src/agent/lifecycle/distributions/kubeadm/kubeadm.ts';
import { kubeadmConfigStep } from '../../../../../src/agent/lifecycle/distributions/kubeadm/kubeadm-config-step.ts';
import type { Facts } from '../../../../../src/agent/lifecycle/machine/machine.ts';
import type { ClusterSpec } from '../../../../../src/kube/lifecycle.ts';
import { cleanUp } from '../../../../support/clean-up.ts';
import { brief, commands, machineFolder } from './machine-folder.ts';
import { smallApiServer, wellCluster } from './small-api-server.ts';
import { IMAGES, spec, usualMachine } from './usual-machine.ts';

const clean = cleanUp();
const usual = (facts?: Partial<Facts>, artifacts?: Record<string, string>) => usualMachine(clean, facts, artifacts);

describe('images', () => {
  test('come from the archives, and undo removes exactly those that came', async () => {
    const box = await usual();
    await box.write('images', 'docker.io/library/mine:1\n');
    const context = box.context(spec());
    await box.perform(await recordStep().run(context));
    const step = imagesStep('images', imagesOfLedger);
    const actions = await box.take(step, context);
    expect(actions.map(({ kind }) => kind)).toEqual(['fetch', 'command', 'remove']);
    await box.perform(await step.undo(context));
    expect((await box.machine.read('/images'))?.trim()).toBe('docker.io/library/mine:1');
  });

  test('are pulled where there is no archive', async () => {
    const box = await usual({}, {});
    expect(commands(await imagesStep('images', imagesOfLedger).run(box.context(spec())))).toEqual([
      'kubeadm config images pull --kubernetes-version v1.36.3 --image-repository registry.k8s.io',
    ]);
  });

  test('are pulled from the private registry', async () => {
    const box = await usual({}, {});
    const clusterRuntime = { customiseClusterRuntime: true, clusterCri: { privateRegistryFQDN: 'r.example.com:5000' } };
    const [pull] = commands(await imagesStep('images', imagesOfLedger).run(box.context(spec({ clusterRuntime }))));
    expect(pull).toContain('--image-repository r.example.com:5000');
  });

  test('one that is missing after the import is named', async () => {
    const box = await usual({}, { 'kubernetes/v1.36.3/images/some.tar': IMAGES.slice(0, 2).join('\n') });
    const context = box.context(spec());
    const step = imagesStep('images', imagesOfLedger);
    await box.perform(await step.run(context));
    await expect(step.verify(context)).rejects.toThrow('images are missing after the import: registry.k8s.io/pause:3.10.2');
  });

  test('without a ledger undo removes nothing', async () => {
    const box = await usual();
    expect(await imagesStep('images', imagesOfLedger).undo(box.context(spec()))).toEqual([]);
  });
});

describe('network', () => {
  test('plugins come from the artifacts', async () => {
    const box = await usual();
    const context = box.context(spec());
    await box.take(cniPluginsStep(), context);
    expect(await box.machine.list('/opt/cni/bin')).toEqual(['bridge', 'host-local', 'loopback', 'portmap']);
    expect(await cniPluginsStep().check(context)).toBe(true);
  });
  test("or from the system's package", async () => {
    const box = await usual({}, {});
    for (const name of ['bridge', 'host-local', 'loopback', 'portmap']) await box.write(`usr/lib/cni/${name}`, 'plugin', 0o755);
    expect(commands(await cniPluginsStep().run(box.context(spec()))).at(-1)).toBe(
      'cp -n -t /opt/cni/bin /usr/lib/cni/bridge /usr/lib/cni/host-local /usr/lib/cni/loopback /usr/lib/cni/portmap',
    );
  });
  test('or there is an error that says what to do', async () => {
    const box = await usual({}, {});
    await expect(cniPluginsStep().run(box.context(spec()))).rejects.toMatchObject({
      nextCommand: 'apt-get install containernetworking-plugins',
    });
  });
  test('the bridge is written once', async () => {
    const box = await usual();
    const context = box.context(spec());
    await box.take(bridgeStep(context.spec), context);
    expect(await bridgeStep(context.spec).check(context)).toBe(true);
    expect(await box.machine.list('/etc/cni/net.d')).toEqual(['05-fairlead.conflist']);
  });
});

describe('the control plane', () => {
  test('its configuration stands in a file that only root reads', async () => {
    const box = await usual();
    const context = box.context(spec());
    await box.take(kubeadmConfigStep('kubeadm-configuration'), context);
    expect((await box.machine.stat('/var/lib/fairlead-cluster/kubeadm.yaml'))?.mode).toBe(0o600);
    expect(await kubeadmConfigStep('kubeadm-configuration').check(context)).toBe(true);
  });

  test('conntrack is left alone where its limit cannot be written', async () => {
    const box = await usual();
    await box.write('proc/sys/net/netfilter/nf_conntrack_max', '262144\n', 0o444);
    const [action] = await kubeadmConfigStep('kubeadm-configuration').run(box.context(spec()));
    expect(action?.kind === 'write' && action.content).toContain('maxPerCore: 0');
  });

  test.each<[Partial<Facts>, string]>([
    [{}, 'kubeadm init --config /var/lib/fairlead-cluster/kubeadm.yaml --skip-token-print --skip-phases=addon/coredns'],
    [
      { cgroup: 1, cpus: 1 },
      'kubeadm init --config /var/lib/fairlead-cluster/kubeadm.yaml --skip-token-print --skip-phases=addon/coredns --ignore-preflight-errors=SystemVerification,NumCPU',
    ],
  ])('%j: %s', async (facts, wanted) => {
    const box = await usual(facts);
    const actions = await controlPlaneStep().run(box.context(spec()));
    expect(actions[0]).toMatchObject({
      kind: 'claim',
      paths: expect.arrayContaining(['/etc/kubernetes', '/var/lib/etcd', '/var/lib/kubelet', '/usr/lib/modules']),
    });
    expect(commands(actions)).toEqual([wanted]);
  });

  test('where no init system starts the kubelet for kubeadm, the agent does, when its files are there', async () => {
    const box = await usual({ initSystem: 'none', cgroup: 1 });
    const config = '--config /var/lib/fairlead-cluster/kubeadm.yaml';
    const actions = await controlPlaneStep().run(box.context(spec()));
    expect(brief(actions).slice(1)).toEqual([
      'restart containerd',
      `kubeadm init phase preflight ${config} --ignore-preflight-errors=SystemVerification`,
      `kubeadm init phase certs all ${config}`,
      `kubeadm init phase kubeconfig all ${config}`,
      // Before the kubelet: it looks for a folder of static pods that is not there yet only every 20 seconds.
      `kubeadm init phase etcd local ${config}`,
      `kubeadm init phase control-plane all ${config}`,
      `kubeadm init phase kubelet-start ${config}`,
      'start kubelet',
      `kubeadm init ${config} --skip-token-print --skip-phases=preflight,certs,kubeconfig,etcd,control-plane,kubelet-start,addon/coredns`,
    ]);
  });

  test.each(['systemd', 'none'] as const)('new flags of the kubelet are taken up with %s', async (initSystem) => {
    const box = await usual({ initSystem });
    const [before, after] = [spec(), spec({ extraArgs: { 'kubelet.v': '4' } })];
    const steps = kubeadm.patch(after, before).filter(({ name }) => name === 'kubelet-arguments');
    const actions = await Promise.all(steps.map((step) => step.run(box.context(after))));
    expect(brief(actions.flat()).slice(1)).toEqual([
      'kubeadm init phase kubelet-start --config /var/lib/fairlead-cluster/kubeadm.yaml',
      // By systemd kubeadm does it.
      ...(initSystem === 'none' ? ['restart kubelet'] : []),
    ]);
  });

  test('CoreDNS comes after kube-proxy, or at once where there is none', async () => {
    const box = await usual();
    const lines = async (more: Partial<ClusterSpec>) => {
      const wanted = spec(more);
      return brief(
        (await kubeadm
          .install(wanted)
          .find(({ name }) => name === 'dns')
          ?.run(box.context(wanted))) ?? [],
      );
    };
    const addon = 'kubeadm init phase addon coredns --config /var/lib/fairlead-cluster/kubeadm.yaml';
    expect(await lines({})).toEqual(['wait the API server is ready', 'wait kube-proxy runs', addon]);
    expect(await lines({ networking: { cilium: { installKubeProxy: false } } })).toEqual(['wait the API server is ready', addon]);
  });

  test('modules that are there are not saved', async () => {
    const box = await usual();
    await box.write('usr/lib/modules/6.1/modules.dep', '');
    const [claim] = await controlPlaneStep().run(box.context(spec()));
    expect(claim?.kind === 'claim' && claim.paths).not.toContain('/usr/lib/modules');
  });

  test('undo stops the kubelet before the reset, and works where neither is there', async () => {
    const box = await usual();
    await box.write('etc/systemd/system/kubelet.service', '');
    const context = box.context(spec());
    expect(brief(await controlPlaneStep().undo(context))).toEqual([
      'stop kubelet',
      'kubeadm reset --force --cri-socket unix:///run/containerd/containerd.sock',
    ]);
    const bare = await machineFolder(clean);
    expect(await controlPlaneStep().undo(bare.context(spec()))).toEqual([]);
  });
});

test('steps of each operation have names of their own', () => {
  const full = spec({ disableWorkloads: true, storage: { clusterCsi: { name: 'local-path' } } });
  const before = spec();
  for (const steps of [kubeadm.install(full), kubeadm.upgrade(full, before), kubeadm.patch(full, before), kubeadm.rotate(full)]) {
    const names = steps.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    for (const name of names) expect(name).toMatch(/^[a-z]+(-[a-z]+)*$/);
  }
});

describe('patch does only what follows from the differences', () => {
  const names = (more: Partial<ClusterSpec>) => kubeadm.patch(spec(more), spec()).map(({ name }) => name);
  test.each<[string, Partial<ClusterSpec>, string[]]>([
    ['nothing', {}, ['node-ready']],
    ['cordon', { disableWorkloads: true }, ['cordon', 'node-ready']],
    [
      'names',
      { apiServer: { certSANs: ['a.example.com'] } },
      [
        'known-version',
        'upload-old-configuration',
        'take-up-old-control-plane',
        'configuration',
        'upload-configuration',
        'certificate-names',
        'take-up-control-plane',
        'node-ready',
      ],
    ],
    [
      'arguments of the API server',
      { extraArgs: { 'apiServer.v': '2' } },
      [
        'known-version',
        'upload-old-configuration',
        'take-up-old-control-plane',
        'configuration',
        'upload-configuration',
        'control-plane-arguments',
        'take-up-control-plane',
        'node-ready',
      ],
    ],
    [
      'arguments of the kubelet',
      { extraArgs: { 'kubelet.v': '2' } },
      [
        'known-version',
        'upload-old-configuration',
        'restart-old-kubelet',
        'configuration',
        'upload-configuration',
        'kubelet-arguments',
        'node-ready',
      ],
    ],
    ['storage', { storage: { clusterCsi: { name: 'local-path' } } }, ['local-path-storage', 'node-ready']],
  ])('%s', (_, more, wanted) => {
    expect(names(more)).toEqual(wanted);
  });
});

describe('a cluster that somebody upgraded by hand', () => {
  const stepOf = (changed: ClusterSpec, name: string) => {
    const found = kubeadm.patch(changed, spec()).find((step) => step.name === name);
    if (!found) throw new Error(`there is no step ${name}`);
    return found;
  };
  async function cluster(version: string) {
    const box = await usual();
    const api = await smallApiServer(clean);
    for (const [path, object] of wellCluster(version)) api.objects.set(path, object);
    await box.write('etc/kubernetes/admin.conf', api.kubeconfig, 0o600);
    return box;
  }

  test('a patch waited for a kubelet of the version of the spec, and was taken back', async () => {
    const box = await cluster('v1.36.4');
    const changed = spec({ disableWorkloads: true });
    const [ready] = await stepOf(changed, 'node-ready').run(box.context(changed));
    if (!ready) throw new Error('nothing is waited for');
    expect(brief([ready])).toEqual(['wait the node is Ready']);
    await box.perform([ready]);
    const installed = await kubeadm
      .install(spec())
      .find(({ name }) => name === 'node-ready')
      ?.run(box.context(spec()));
    expect(brief(installed ?? [])[0]).toBe('wait the node is Ready with kubelet v1.36.3');
  });

  const changed = spec({ extraArgs: { 'apiServer.v': '2' } });
  test.each([
    ['v1.36.4', /^the API server is v1\.36\.4, and this patch would make it v1\.36\.3, .*: upgrade the cluster to v1\.36\.4 first$/],
    ['v1.37.0', /: upgrade the cluster to v1\.37\.0 first$/],
    ['v1.36.2', /: bring the API server back to v1\.36\.3 first$/],
  ])('a patch of the control plane, which runs %s, wrote manifests of the version of the spec', async (version, message) => {
    const box = await cluster(version);
    expect(kubeadm.patch(changed, spec())[0]?.name).toBe('known-version');
    const step = stepOf(changed, 'known-version');
    await expect(step.run(box.context(changed))).rejects.toThrow(message);
    await expect(step.verify(box.context(changed))).rejects.toThrow(message);
  });

  test('one of the version of the spec is patched, after a power cut too', async () => {
    const box = await cluster('v1.36.3');
    const step = stepOf(changed, 'known-version');
    expect(brief(await step.run(box.context(changed)))).toEqual(['wait the API server is ready']);
    await step.verify(box.context(changed));
    await box.machine.remove('/etc/kubernetes/admin.conf');
    expect(brief(await step.run(box.context(changed)))).toEqual(['wait the API server is ready']);
  });
});

test('containerd begins anew before kubeadm init: after a reset that was cut off it watched a folder of networks that was no longer there', async () => {
  const box = await usual();
  const actions = await controlPlaneStep().run(box.context(spec()));
  const at = (kind: string) => actions.findIndex((action) => action.kind === kind);
  expect(actions[at('service')]).toEqual({ kind: 'service', unit: 'containerd', change: 'restart' });
  expect(at('service')).toBeLessThan(at('command'));
});
