import type { MachineView } from '../../machine/machine.ts';
import { type Action, type Step, type StepContext, StepError } from '../../operations/step.ts';
import { ask, step } from '../common/run.ts';
import { versionOf } from './images.ts';
import { program } from './paths.ts';

export type Program = 'kubeadm' | 'kubelet' | 'kubectl';

/** How each says its version, and nothing else. */
const ASKED: Readonly<Record<Program, readonly string[]>> = {
  kubeadm: ['kubeadm', 'version', '-o', 'short'],
  kubelet: ['kubelet', '--version'],
  kubectl: ['kubectl', 'version', '--client', '-o', 'json'],
};
const FOLDER = '/usr/bin';

/** Version of a program on the machine, `v1.36.3`; undefined when it is not there or does not run. */
export async function programVersion(machine: MachineView, name: Program): Promise<string | undefined> {
  const text = await ask(machine, ASKED[name]);
  return /\bv\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.+-]+)?/.exec(text ?? '')?.[0];
}

/** Actions that put programs of the spec's version in place. */
export const fetchPrograms = (context: StepContext, names: readonly Program[]): Action[] =>
  names.map(
    (name): Action => ({ kind: 'fetch', path: `${FOLDER}/${name}`, artifact: program(versionOf(context.spec), name), mode: 0o755 }),
  );

/** Throws unless the programs that the PATH finds are of the spec's version: one of another version may stand before ours. */
export async function verifyPrograms(context: StepContext, names: readonly Program[]): Promise<void> {
  for (const name of names) {
    const found = await programVersion(context.machine, name);
    const wanted = versionOf(context.spec);
    if (found !== wanted)
      throw new StepError(
        `${name} ${wanted} is wanted, but ${(await context.machine.which(name)) ?? 'the PATH'} has ${found ?? 'none that runs'}`,
      );
  }
}

export const allOfVersion = async (context: StepContext, names: readonly Program[]): Promise<boolean> => {
  for (const name of names) if ((await programVersion(context.machine, name)) !== versionOf(context.spec)) return false;
  return true;
};

/** kubeadm, kubelet and kubectl of the wanted version. */
export function binariesStep(name: string, names: readonly Program[]): Step {
  return step({
    name,
    check: (context) => allOfVersion(context, names),
    run: async (context) => fetchPrograms(context, names),
    verify: (context) => verifyPrograms(context, names),
    afterCrash: 'repeat',
  });
}

const UNIT = '/etc/systemd/system/kubelet.service';
const DROP_IN = '/etc/systemd/system/kubelet.service.d/10-kubeadm.conf';

const unitText = `[Unit]
Description=kubelet: the Kubernetes node agent
Documentation=https://kubernetes.io/docs/
Wants=network-online.target
After=network-online.target containerd.service

[Service]
ExecStart=${FOLDER}/kubelet
Restart=always
StartLimitInterval=0
RestartSec=2

[Install]
WantedBy=multi-user.target
`;

/** kubeadm writes the two files that are read here. Flags of the last one are the administrator's. */
const dropInText = `[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=${FOLDER}/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
`;

const files = [
  { path: UNIT, content: unitText },
  { path: DROP_IN, content: dropInText },
] as const;

/** The kubelet's unit, started with the machine. It starts first when kubeadm has written what it needs. */
export function kubeletServiceStep(): Step {
  return step({
    name: 'kubelet-service',
    check: async ({ machine }) => {
      for (const { path, content } of files) if ((await machine.read(path)) !== content) return false;
      return machine.services.enabled('kubelet');
    },
    run: async () => [
      ...files.map((file): Action => ({ kind: 'write', mode: 0o644, ...file })),
      { kind: 'service', unit: 'kubelet', change: 'daemon-reload' },
      { kind: 'service', unit: 'kubelet', change: 'enable' },
    ],
    verify: async ({ machine }) => {
      if (!(await machine.services.enabled('kubelet'))) throw new Error('the kubelet is not enabled');
    },
    undo: async ({ machine }) => {
      if (!(await machine.services.exists('kubelet'))) return [];
      return [
        { kind: 'service', unit: 'kubelet', change: 'stop' },
        { kind: 'service', unit: 'kubelet', change: 'disable' },
        { kind: 'remove', path: DROP_IN },
        { kind: 'remove', path: UNIT },
        { kind: 'service', unit: 'kubelet', change: 'daemon-reload' },
      ];
    },
    afterCrash: 'repeat',
  });
}
