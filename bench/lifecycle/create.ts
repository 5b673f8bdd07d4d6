import { execFileSync } from 'node:child_process';
import { artifactsFolder } from '../../e2e/lab/artifacts.ts';
import { type Machine, startMachine } from '../../e2e/lab/machine.ts';
import { ARTIFACTS, CLUSTER, type MachineEnv } from '../../e2e/machine/env.ts';
import { atMost, type Row } from '../lib/report.ts';

const VERSION = 'v1.36.3';
const LIMIT_MS = 900_000;
const KUBELET_UNIT = `[Service]
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
ExecStart=/usr/bin/kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS
Restart=always
RestartSec=1
`;

const IMPORT = `for image in ${ARTIFACTS}/kubernetes/${VERSION}/images/*.tar; do ctr -n k8s.io images import $image >/dev/null; done`;

/** What a person types who knows how, with the same settings as the agent's: programs, images, containerd, kubeadm, the network. */
const byHand = (address: string) => `set -e
cat > /tmp/kubeadm.yaml <<'END'
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: ${address}}
nodeRegistration: {criSocket: "unix:///run/containerd/containerd.sock", taints: []}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: ${VERSION}
networking: {podSubnet: 10.244.0.0/16, serviceSubnet: 10.245.0.0/16}
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
failCgroupV1: false
oomScoreAdj: 0
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
oomScoreAdj: 0
conntrack: {maxPerCore: 0, min: 0}
END
for name in kubeadm kubelet kubectl; do install -m 0755 ${ARTIFACTS}/kubernetes/${VERSION}/bin/$name /usr/bin/$name; done
mkdir -p /opt/cni/bin /etc/cni/net.d /etc/systemd/system
install -m 0755 ${ARTIFACTS}/cni/bin/* /opt/cni/bin/
cat > /etc/systemd/system/kubelet.service <<'END'
${KUBELET_UNIT}END
systemctl daemon-reload
systemctl enable -q kubelet
sysctl -q -w net.ipv4.ip_forward=1
containerd config default | sed 's#sandbox_image = .*#sandbox_image = "registry.k8s.io/pause:3.10.2"#; s#restrict_oom_score_adj = false#restrict_oom_score_adj = true#' > /etc/containerd/config.toml
systemctl restart containerd
${IMPORT}
cat > /etc/cni/net.d/10-bridge.conflist <<'END'
{"cniVersion":"1.0.0","name":"bridge","plugins":[{"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.244.0.0/16"}]],"routes":[{"dst":"0.0.0.0/0"}]}},{"type":"portmap","capabilities":{"portMappings":true}}]}
END
date +%s.%N > /tmp/before-init
kubeadm init --config /tmp/kubeadm.yaml --ignore-preflight-errors=SystemVerification >/tmp/kubeadm.log 2>&1
until kubectl --kubeconfig /etc/kubernetes/admin.conf wait --for=condition=Ready node --all --timeout=300s >/dev/null 2>&1; do sleep 0.2; done
`;

/** What was written before is on the disk: nobody pays for another's writing. */
const rested = () => void execFileSync('sync');

/** Seconds from the start of the work to the node's own word that it is Ready, which is as exact as a second. */
async function readyAfter(machine: Machine, began: number): Promise<number> {
  const path = 'jsonpath={.items[0].status.conditions[?(@.type=="Ready")].lastTransitionTime}';
  const at = (await machine.run(['kubectl', '--kubeconfig', '/etc/kubernetes/admin.conf', 'get', 'nodes', '-o', path])).trim();
  return (Date.parse(at) - began) / 1000;
}

/** Seconds to the node Ready: all of it, and from kubeadm init on. */
async function bare(): Promise<{ whole: number; init: number }> {
  const machine = await startMachine({ name: 'bare', binds: [{ source: await artifactsFolder(), target: ARTIFACTS }] });
  try {
    await machine.settled();
    rested();
    const began = Date.now();
    await machine.run(['sh', '-c', byHand(machine.address)], { timeout: LIMIT_MS });
    const init = Number(await machine.readFile('/tmp/before-init')) * 1000;
    return { whole: await readyAfter(machine, began), init: await readyAfter(machine, init) };
  } finally {
    await machine.stop();
  }
}

/** Seconds that a create by the plugin takes: to the node Ready, and until everything runs. */
async function create(env: MachineEnv, more = ''): Promise<{ ready: number; done: number }> {
  const spec = `{version: ${VERSION}, networking: {podSubnet: 10.244.0.0/16, svcSubnet: 10.245.0.0/16}${more}}`;
  rested();
  const began = Date.now();
  await env.ok(['infra', 'lifecycle', 'create', CLUSTER, '-f', '-', '--timeout=15m'], {
    input: `apiVersion: v1alpha1\nkind: Cluster\nspec: ${spec}\n`,
  });
  const done = (Date.now() - began) / 1000;
  return { ready: await readyAfter(env.machine, began), done };
}

const shown = (...seconds: number[]) => `${seconds.map((one) => one.toFixed(1)).join(' and ')} s`;

/**
 * Create by the plugin until the node is Ready, against a person at a machine like it, before and after: with everything that there is to do, most of which is writing images, and disks are
 * faster after a rest; and once more with the images in containerd already, against `kubeadm init` alone with the same images, which has neither programs nor containerd to set up.
 * Leaves the cluster there.
 */
export async function createAgainstBare(env: MachineEnv): Promise<Row[]> {
  const before = await bare();
  const all = await create(env);
  await env.ok(['infra', 'lifecycle', 'delete', CLUSTER, '--yes', '--timeout=15m']);
  await env.machine.run(['sh', '-ec', `systemctl start containerd\n${IMPORT}`], { timeout: LIMIT_MS });
  // Named in the spec, the agent looks into the archives, and leaves out those whose images are there.
  const rest = await create(env, `, artifacts: {source: ${ARTIFACTS}}`);
  const after = await bare();
  const mean = (part: 'whole' | 'init') => (before[part] + after[part]) / 2;
  return [
    atMost(
      'create to node Ready / the same by hand: programs, images, kubeadm init',
      all.ready / mean('whole'),
      1.3,
      `node Ready after ${shown(all.ready)}, by hand ${shown(before.whole, after.whole)}; everything running after ${shown(all.done)}`,
    ),
    atMost(
      'create to node Ready / bare kubeadm init to Ready, images there on both sides',
      rest.ready / mean('init'),
      1.3,
      `node Ready after ${shown(rest.ready)}, kubeadm init alone ${shown(before.init, after.init)}; everything running after ${shown(rest.done)}`,
    ),
  ];
}
