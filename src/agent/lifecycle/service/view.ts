import {
  AGENT_API_VERSION,
  type AgentCluster,
  type ClusterSpec,
  type LifecycleOperation,
  type OperationType,
} from '../../../kube/lifecycle.ts';
import type { Observation } from '../distributions/distribution.ts';
import type { Drift } from '../reconcilers/find-drift.ts';
import { withPassword } from '../spec/secrets.ts';
import { phaseNow } from '../state/phases.ts';
import type { State } from '../state/state.ts';

/** What was seen of the machine, besides what is remembered. `busy`: an operation runs, or its end was not recorded yet. */
export type Seen = { observation: Observation | undefined; drift: readonly Drift[]; bootID: string; busy: boolean };

const MAX_DRIFT = 256;
const LEADS_TO_SPEC: ReadonlySet<OperationType> = new Set(['Install', 'Upgrade', 'Patch']);

/** The cluster as the API answers it: nothing of a password, and while an operation runs the spec that it leads to. */
export function agentCluster(state: State, operation: LifecycleOperation | undefined, seen: Seen): AgentCluster {
  // A wish that could not be taken back stands beside the last operation, and may be of its type.
  const pending = seen.busy && operation !== undefined && state.wish?.type === operation.type;
  const wished =
    pending && LEADS_TO_SPEC.has(operation.type) && operation.phase !== 'Undoing' && operation.phase !== 'Failed' ? state.wish : undefined;
  const spec: ClusterSpec | undefined = wished?.spec ?? state.spec;
  const metadata = wished?.metadata ?? state.metadata;
  const { observation, drift, bootID } = seen;
  // What the spec calls the manifest that was applied; nobody asks a network for its version.
  const { cniManifestURL, cniVersion } = (state.installed && state.spec?.networking) || {};
  return {
    apiVersion: AGENT_API_VERSION,
    kind: 'Cluster',
    ...(Object.keys(metadata).length > 0 && { metadata }),
    ...(spec && { spec: withPassword(spec, undefined) }),
    status: {
      phase: phaseNow(state.phase, operation, pending),
      ...(observation?.version && { kubernetesVersion: observation.version }),
      ...(observation?.kubeletVersion && { kubeletVersion: observation.kubeletVersion }),
      ...(cniManifestURL && cniVersion && { cniVersion }),
      ...(observation?.installed && { unschedulable: observation.unschedulable }),
      conditions: state.conditions,
      ...(operation && { operation }),
      ...(drift.length > 0 && { drift: drift.slice(0, MAX_DRIFT).map(({ path, problem }) => ({ path, problem })) }),
      ...(bootID && { bootID }),
    },
  };
}
