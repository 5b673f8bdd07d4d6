import { expect, test } from 'vitest';
import { LEDGER_FILE } from '../../../../../src/agent/lifecycle/distributions/common/ledger.ts';
import { leftoverCleaning } from '../../../../../src/agent/lifecycle/distributions/common/leftovers.ts';
import { cleanUp } from '../../../../support/clean-up.ts';
import { commands, machineFolder } from '../kubeadm/machine-folder.ts';

const clean = cleanUp();
const CTR = ['ctr', '-n', 'k8s.io'];
const heading = 'heading\nheading\n';

test("only what is of Kubernetes goes: Docker's mounts, cables and names stay", async () => {
  const box = await machineFolder(clean);
  await box.write(LEDGER_FILE, JSON.stringify({ interfaces: ['lo', 'eth0', 'cilium_old'], nftTables: [] }));
  await box.write('proc/net/dev', `${heading}lo: 0\neth0: 0\ncni0: 0\nveth1: 0\nvethdocker: 0\ndocker0: 0\nlxcbr0: 0\ncilium_old: 0\n`);
  await box.write('sys/class/net/cni0/brif/veth1/x', '');
  await box.write('run/netns/cni-0123', '');
  await box.write(
    'proc/mounts',
    [
      'tmpfs /var/lib/kubelet/pods/a/volumes/kubernetes.io~projected/t tmpfs rw 0 0',
      'overlay /run/containerd/io.containerd.runtime.v2.task/moby/1/rootfs overlay rw 0 0',
      'overlay /run/containerd/io.containerd.runtime.v2.task/k8s.io/2/rootfs overlay rw 0 0',
      'tmpfs /var/lib/kubelet-other tmpfs rw 0 0',
    ].join('\n'),
  );
  await box.program('ctr', 'exit 0');
  expect(commands(await leftoverCleaning(box.machine, CTR)).filter((line) => !line.startsWith('find'))).toEqual([
    'umount -l /var/lib/kubelet/pods/a/volumes/kubernetes.io~projected/t',
    'umount -l /run/containerd/io.containerd.runtime.v2.task/k8s.io/2/rootfs',
    'ip link delete veth1',
    'ip link delete cni0',
  ]);
});

test('containers that a reset left are ended with their network namespaces', async () => {
  const box = await machineFolder(clean);
  await box.write('run/netns/cni-0123', '');
  await box.write('run/netns/blue', '');
  await box.program('ctr', 'case "$3 $4 $5" in "tasks ls -q") echo abc;; "containers ls -q") echo abc;; esac');
  expect(commands(await leftoverCleaning(box.machine, CTR)).slice(0, 4)).toEqual([
    'ctr -n k8s.io tasks kill -s SIGKILL abc',
    'ctr -n k8s.io tasks delete -f abc',
    'ctr -n k8s.io containers delete abc',
    'ip netns delete cni-0123',
  ]);
});
