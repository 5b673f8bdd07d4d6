import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ArtifactSource } from '../../../../../src/agent/lifecycle/artifacts/source.ts';
import { kubeadm } from '../../../../../src/agent/lifecycle/distributions/kubeadm/kubeadm.ts';
import { operationManager } from '../../../../../src/agent/lifecycle/operations/manager.ts';
import type { OperationManager, OperationRequest } from '../../../../../src/agent/lifecycle/operations/request.ts';
import type { Step } from '../../../../../src/agent/lifecycle/operations/step.ts';
import { repairSteps } from '../../../../../src/agent/lifecycle/service/repair-steps.ts';
import type { ClusterSpec, LifecycleOperation, OperationType } from '../../../../../src/kube/lifecycle.ts';
import { treeOf } from '../../operations/sandbox.ts';
import { FACTS } from './facts.ts';
import { digest, type MachineFolder } from './machine-folder.ts';
import { smallApiServer } from './small-api-server.ts';
import { ARTIFACTS, usualMachine } from './usual-machine.ts';

const STATIC_PODS = ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler'];
/** What the stand-ins keep for themselves: containers that run (a file each, with the number of its container), and what is not of the machine. */
const OWN = /^\/(bin|calls|kubeconfig|serving\.crt|run\/tasks|run)(\/|$)/;

/** Stands in for kubeadm: makes the files of a cluster, and says nothing wrong. */
const KUBEADM = `manifests() { for name in ${STATIC_PODS.join(' ')}; do
  printf 'spec: {containers: [{image: %s, command: [%s]}]}\\n' $name "$name-$(cksum < $ROOT/var/lib/fairlead-cluster/kubeadm.yaml | cut -d' ' -f1)" > $ROOT/etc/kubernetes/manifests/$name.yaml; done; }
upload() { cksum < $ROOT/var/lib/fairlead-cluster/kubeadm.yaml > $ROOT/var/lib/etcd/member/$1; }
case "$1 $2" in
"version "*) echo v1.36.3;;
"config images") cat $ROOT/bin/image-names;;
"init --config") cd $ROOT; mkdir -p etc/kubernetes/pki etc/kubernetes/manifests etc/cni/net.d var/lib/etcd/member var/lib/kubelet var/log/pods usr/lib/modules run/tasks
  echo key > etc/kubernetes/pki/ca.key; cp serving.crt etc/kubernetes/pki/apiserver.crt; echo key > etc/kubernetes/pki/apiserver.key
  echo config > var/lib/kubelet/config.yaml; cp kubeconfig etc/kubernetes/admin.conf; manifests; upload all
  for name in ${STATIC_PODS.join(' ')}; do echo 1 > run/tasks/$name; done; touch run/active/kubelet;;
"init phase") case "$3 $4" in
  "addon coredns"|"upload-config all") upload $4;;
  "certs apiserver") [ ! -e $ROOT/etc/kubernetes/pki/apiserver.crt ] || exit 1; cp $ROOT/serving.crt $ROOT/etc/kubernetes/pki/apiserver.crt; echo new > $ROOT/etc/kubernetes/pki/apiserver.key;;
  "control-plane all"|"etcd local") manifests;;
  "kubelet-start --config") echo new > $ROOT/var/lib/kubelet/config.yaml;;
  *) echo "kubeadm $*: not known" >&2; exit 1;; esac;;
"reset --force") rm -rf $ROOT/etc/kubernetes/manifests $ROOT/etc/kubernetes/admin.conf $ROOT/etc/cni/net.d $ROOT/var/lib/etcd/member;;
*) echo "kubeadm $*: not known" >&2; exit 1;; esac`;

/** Images are lines of a file. A container that is ended is started anew at once, as by the kubelet, unless that is stopped. */
const CTR = `cd $ROOT; mkdir -p run/tasks; shift 2; case "$1 $2" in
"version ") ;;
"images ls") cat images;;
"images import") cat $3 >> images; echo >> images;;
"images rm") shift 3; for name; do grep -vxF "$name" images > images.new; mv images.new images; done;;
"tasks ls") cd run/tasks; [ "$3" = -q ] || echo TASK PID STATUS; for name in *; do [ ! -e $name ] || if [ "$3" = -q ]; then echo $name-$(cat $name); else echo $name-$(cat $name) 1 RUNNING; fi; done;;
"tasks kill") name=\${5%-*}; if [ -e run/active/kubelet ]; then echo $(($(cat run/tasks/$name) + 1)) > run/tasks/$name; else rm -f run/tasks/$name; fi;;
"containers ls") cd run/tasks; for name in *; do [ ! -e $name ] || case "$4" in ""|*container.name\\"==$name) echo $name-$(cat $name);; esac; done;;
"tasks delete"|"containers delete") rm -f run/tasks/\${4%-*} run/tasks/\${3%-*};;
*) echo "ctr $*: not known" >&2; exit 1;; esac`;

const KUBECTL = `[ -x $ROOT/usr/bin/kubectl ] || exit 127
case " $* " in *" version "*) echo v1.36.3;; *" cordon "*) touch $ROOT/var/lib/etcd/member/cordoned;; *" uncordon "*) rm -f $ROOT/var/lib/etcd/member/cordoned;;
*" apply "*) cksum > $ROOT/var/lib/etcd/member/applied;; *" delete "*) rm -f $ROOT/var/lib/etcd/member/applied;; *) exit 1;; esac`;

export type StandIn = {
  box: MachineFolder;
  /** Does one operation to its end. `around` may change its steps. */
  run(
    type: OperationType,
    spec: ClusterSpec,
    before: ClusterSpec | undefined,
    around: (steps: Step[]) => Step[],
  ): Promise<LifecycleOperation>;
  /** Everything on the machine but what runs, the agent's own state and the stand-ins. */
  tree(): Promise<Map<string, string>>;
};

/** A usual machine on which the engine and kubeadm's tables of steps work, with stand-ins of all programs. */
export async function standIn(clean: { after(undo: () => unknown): void }): Promise<StandIn> {
  const box = await usualMachine(clean);
  const { root } = box;
  const api = await smallApiServer(clean);
  const stateDir = join(root, 'var/lib/fairlead-agent');
  await box.write('var/lib/fairlead-agent/lifecycle/operations/.keep', '');
  await box.write('kubeconfig', api.kubeconfig, 0o600);
  await box.write('serving.crt', api.serverCertificate);
  await box.write('images', 'docker.io/library/mine:1\n');
  await box.write('bin/image-names', `${ARTIFACTS['kubernetes/v1.36.3/images/all.tar']}\n`);
  for (const [name, script] of Object.entries({ kubeadm: KUBEADM, ctr: CTR, kubectl: KUBECTL, tee: 'cat >> $ROOT$2', sync: '', find: '' }))
    await box.program(name, script);
  await box.program('kubelet', '[ -x $ROOT/usr/bin/kubelet ] && echo "Kubernetes v1.36.3"');
  await box.program('modprobe', '');

  const ready = { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] };
  const commandOf = (name: string) => {
    const path = join(root, `etc/kubernetes/manifests/${name}.yaml`);
    return existsSync(path) ? (/command: \[(.*?)\]/.exec(readFileSync(path, 'utf8'))?.[1] ?? '') : '';
  };
  const pod = (name: string) => ({
    metadata: { labels: { component: name, tier: 'control-plane' } },
    spec: { containers: [{ image: name, command: [commandOf(name)] }] },
    status: {
      ...ready,
      containerStatuses: [{ containerID: `containerd://${name}-${readFileSync(join(root, 'run/tasks', name), 'utf8').trim()}` }],
    },
  });
  const nodeInfo = { kubeletVersion: 'v1.36.3' };
  for (const [path, object] of Object.entries({
    '/readyz': 'ok',
    '/version': { gitVersion: 'v1.36.3' },
    '/apis/storage.k8s.io/v1/storageclasses/local-path': {},
    '/api/v1/namespaces/kube-system/pods': () => ({ items: readdirSync(join(root, 'run/tasks')).map(pod) }),
    '/api/v1/nodes': () => ({
      items: [{ spec: { unschedulable: existsSync(join(root, 'var/lib/etcd/member/cordoned')) }, status: { ...ready, nodeInfo } }],
    }),
  }))
    api.objects.set(path, object);

  const artifacts: ArtifactSource = {
    refresh: () => undefined,
    list: async (prefix) => Object.keys(ARTIFACTS).filter((path) => path.startsWith(prefix)),
    async fetch(relative, to, mode) {
      const content = ARTIFACTS[relative] ?? '';
      await box.machine.write(to, content, mode);
      return digest(content);
    },
  };
  const stepsOf = ({ type, spec, before }: OperationRequest, { written }: OperationManager): Step[] => {
    if (type === 'Install') return kubeadm.install(spec);
    if (type === 'Repair') return repairSteps(kubeadm.install(spec), written);
    return type === 'Patch' ? kubeadm.patch(spec, before ?? spec) : kubeadm.beforeDelete(spec);
  };
  return {
    box,
    async run(type, spec, before, around) {
      const manager: OperationManager = operationManager({
        stateDir,
        machine: { ...box.machine, facts: async () => FACTS },
        artifacts,
        steps: (request) => (request.type === type ? around(stepsOf(request, manager)) : stepsOf(request, manager)),
        onError: (error) => {
          throw error;
        },
        pollMs: 2,
      });
      await manager.start();
      await manager.begin({ type, spec, before, requester: { user: 'ada', auditID: 'a' }, version: spec.version ?? '' });
      await manager.settled();
      await manager.stop();
      const last = manager.last();
      if (!last) throw new Error('nothing ran');
      return last;
    },
    async tree() {
      const all = await treeOf(root, stateDir);
      return new Map([...all].filter(([path]) => !OWN.test(path)));
    },
  };
}
