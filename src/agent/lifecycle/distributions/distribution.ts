import type { CertificateInfo, ClusterSpec, ClusterType } from '../../../kube/lifecycle.ts';
import type { StatusCause } from '../../../kube/status.ts';
import type { Facts, MachineView } from '../machine/machine.ts';
import type { Step } from '../operations/step.ts';

/** What a look at the cluster told. */
export type Observation = {
  /** False: there is no cluster of this distribution on the machine. */
  installed: boolean;
  /** Version of the API server. */
  version?: string;
  kubeletVersion?: string;
  /** Boot id that the node has reported last: until it is the machine's, what the node says is of before the restart. */
  bootID?: string;
  nodeReady: boolean;
  controlPlaneReady: boolean;
  cniReady: boolean;
  unschedulable: boolean;
  /** What is not well, in words. */
  message: string;
};

/** One distribution of Kubernetes: tables of steps, and how to look at what they made. */
export type Distribution = {
  type: ClusterType;
  /** The spec with everything that was left open. */
  defaults(spec: ClusterSpec, facts: Facts): ClusterSpec;
  /** What is wrong with a complete spec; fields begin with `spec.`. */
  validate(spec: ClusterSpec, facts: Facts): StatusCause[];
  install(spec: ClusterSpec): Step[];
  /** To spec.version from `before.version`, which is lower. */
  upgrade(spec: ClusterSpec, before: ClusterSpec): Step[];
  /** What follows from the differences that a patch may make. */
  patch(spec: ClusterSpec, before: ClusterSpec): Step[];
  rotate(spec: ClusterSpec): Step[];
  /** What deletion does before the steps of install are taken back, newest first (for example draining). */
  beforeDelete(spec: ClusterSpec): Step[];
  observe(machine: MachineView, spec: ClusterSpec, signal: AbortSignal): Promise<Observation>;
  certificates(machine: MachineView): Promise<CertificateInfo[]>;
  /** Path of the administrator's kubeconfig. */
  kubeconfigPath: string;
  /** What that file, of which `text` is given, says to others than the machine itself. Left out: the same. */
  kubeconfigElsewhere?(text: string, spec: ClusterSpec, facts: Facts): string;
};
