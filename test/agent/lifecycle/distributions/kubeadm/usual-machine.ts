import { kubeadm } from '../../../../../src/agent/lifecycle/distributions/kubeadm/kubeadm.ts';
import type { Facts } from '../../../../../src/agent/lifecycle/machine/machine.ts';
import type { ClusterSpec } from '../../../../../src/kube/lifecycle.ts';
import { FACTS, SPEC } from './facts.ts';
import { type MachineFolder, machineFolder } from './machine-folder.ts';

type Clean = { after(undo: () => unknown): void };

export const IMAGES = ['kube-apiserver:v1.36.3', 'etcd:3.6.8-0', 'pause:3.10.2'].map((name) => `registry.k8s.io/${name}`);
const program = (name: string) => `#!/bin/sh\necho "Kubernetes v1.36.3 ${name}"\n`;
export const ARTIFACTS: Record<string, string> = {
  ...Object.fromEntries(['kubeadm', 'kubelet', 'kubectl'].map((name) => [`kubernetes/v1.36.3/bin/${name}`, program(name)])),
  ...Object.fromEntries(['bridge', 'host-local', 'loopback', 'portmap'].map((name) => [`cni/bin/${name}`, 'plugin'])),
  'kubernetes/v1.36.3/images/all.tar': IMAGES.join('\n'),
};

/** A usual machine: containerd is installed and runs, the kernel has everything. */
export async function usualMachine(clean: Clean, facts: Partial<Facts> = {}, artifacts = ARTIFACTS): Promise<MachineFolder> {
  const box = await machineFolder(clean, facts, artifacts);
  await box.write('proc/filesystems', 'nodev\tsysfs\nnodev\toverlay\n\text4\n');
  await box.write('proc/net/tcp', 'heading\n');
  await box.write('proc/net/dev', 'heading\nheading\n    lo: 0 0\n  eth0: 1 2\n');
  await box.write('proc/sys/net/bridge/bridge-nf-call-iptables', '1\n');
  await box.write('proc/sys/net/ipv4/ip_forward', '0\n');
  await box.write('proc/sys/vm/overcommit_memory', '0\n');
  await box.write('etc/hosts', '127.0.0.1 localhost\n');
  await box.write('etc/containerd/config.toml', 'version = 2\n# of the package\n', 0o640);
  await box.write('run/active/containerd', '');
  await box.write('run/enabled/containerd', '');
  await box.program('runc', '');
  await box.program(
    'containerd',
    'case "$*" in --version) echo "containerd github.com/containerd/containerd 1.7.2 x";; *) printf \'version = 2\\n\\n[plugins]\\n  [plugins."io.containerd.grpc.v1.cri"]\\n    sandbox_image = "old"\\n\';; esac',
  );
  // Images are lines of a file.
  await box.program(
    'ctr',
    `touch $ROOT/images; shift 2; case "$1 $2" in
"images ls") cat $ROOT/images;;
"images import") cat $3 >> $ROOT/images; echo >> $ROOT/images;;
"images rm") shift 3; for name; do grep -vxF "$name" $ROOT/images > $ROOT/images.new; mv $ROOT/images.new $ROOT/images; done;;
esac`,
  );
  await box.program('kubeadm', `case "$1" in version) echo v1.36.3;; config) printf '${IMAGES.join('\\n')}\\n';; esac`);
  return box;
}
/** A complete spec. */
export const spec = (more: Partial<ClusterSpec> = {}) => kubeadm.defaults({ ...SPEC, ...more }, FACTS);
