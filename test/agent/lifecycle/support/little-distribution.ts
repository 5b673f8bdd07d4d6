import type { Distribution } from '../../../../src/agent/lifecycle/distributions/distribution.ts';
import type { MachineView } from '../../../../src/agent/lifecycle/machine/machine.ts';
import type { Action, Step } from '../../../../src/agent/lifecycle/operations/step.ts';
import type { ClusterSpec } from '../../../../src/kube/lifecycle.ts';

/**
 * A distribution as small as one can be: its cluster is a few files that little programs make. Everything around it, the engine and the machine included, is the real thing.
 */
const FOLDER = '/etc/little';
const text = async (machine: MachineView, name: string) => (await machine.read(`${FOLDER}/${name}`))?.trim();
const command = (...argv: string[]): Action => ({ kind: 'command', command: { argv, timeoutMs: 20_000 } });
const DAY = 86_400_000;

function step(name: string, run: Step['run'], more: Partial<Step> = {}): Step {
  return { name, check: async () => false, run, verify: async () => undefined, undo: async () => [], ...more };
}

const configuration = (spec: ClusterSpec) =>
  `sans=${(spec.apiServer?.certSANs ?? []).join(',')}\nusername=${spec.clusterRuntime?.clusterCri?.registryAuth?.username ?? ''}\n`;

export const littleDistribution: Distribution = {
  type: 'kubeadm',
  kubeconfigPath: `${FOLDER}/admin.conf`,
  defaults: (spec) => ({ ...spec, disableWorkloads: spec.disableWorkloads ?? false }),
  validate: (spec) => (spec.version ? [] : [{ reason: 'FieldValueRequired', message: 'Required value', field: 'spec.version' }]),
  install: (spec) => [
    step('write-configuration', async () => [
      { kind: 'write', path: `${FOLDER}/config`, content: configuration(spec), mode: 0o640 },
      { kind: 'write', path: '/etc/sysctl.d/little.conf', content: '# little\nnet.ipv4.ip_forward = 1\n', mode: 0o644 },
      command('sysctl', '-w', 'net.ipv4.ip_forward=1'),
    ]),
    step('make-cluster', async () => [command('make-cluster', spec.version ?? '', `${Date.now() + 365 * DAY}`)], {
      undo: async () => [command('unmake-cluster')],
      async verify({ machine }) {
        if ((await text(machine, 'version')) === undefined) throw new Error('there is no cluster');
      },
    }),
  ],
  upgrade: (spec, before) => [
    step('upgrade-cluster', async () => [command('upgrade-cluster', spec.version ?? '')], {
      undo: async () => [command('upgrade-cluster', before.version ?? '')],
      async verify({ machine }) {
        if ((await text(machine, 'version')) !== spec.version) throw new Error('the version did not change');
      },
    }),
  ],
  patch: (spec) => [
    step('write-new-configuration', async () => [{ kind: 'write', path: `${FOLDER}/config`, content: configuration(spec), mode: 0o640 }]),
  ],
  rotate: () => [step('renew-certificates', async () => [command('renew-certificates', `${Date.now() + 365 * DAY}`)])],
  beforeDelete: () => [],
  async observe(machine) {
    const [version, kubeletVersion, node] = [await text(machine, 'version'), await text(machine, 'kubelet'), await text(machine, 'node')];
    const installed = (await machine.read(`${FOLDER}/admin.conf`)) !== undefined;
    return {
      installed,
      ...(version && { version }),
      ...(kubeletVersion && { kubeletVersion }),
      nodeReady: node === 'ready',
      controlPlaneReady: installed,
      cniReady: installed,
      unschedulable: false,
      message: node === 'ready' ? '' : 'the node is not Ready: the file says so',
    };
  },
  async certificates(machine) {
    const at = Number(await text(machine, 'certificate'));
    if (!Number.isFinite(at)) return [];
    const date = (ms: number) => new Date(ms).toISOString();
    const days = (ms: number) => String(Math.floor((ms - Date.now()) / DAY));
    const far = Date.now() + DAY;
    return [
      { name: 'apiserver', expiryDate: date(at), remainingDaysToExpire: days(at) },
      { name: 'etcd-ca', expiryDate: date(far), remainingDaysToExpire: days(far) },
    ];
  },
};
