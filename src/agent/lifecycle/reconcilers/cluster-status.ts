import type { ClusterSpec } from '../../../kube/lifecycle.ts';
import { compareVersions, parseVersion } from '../distributions/common/versions.ts';
import type { Observation } from '../distributions/distribution.ts';
import { deletionFailed } from '../state/phases.ts';
import type { ConditionChange, StateFile } from '../state/state.ts';
import type { Reconciler } from './loops.ts';

const TIMEOUT_MS = 30_000;
/** So many looks in a row must find no cluster: one of them may have come while somebody replaced a file. */
const GONE_LOOKS = 2;

/** Looks at the cluster: its conditions, whether somebody removed it by hand, and whether its kubelet was upgraded by hand. */
export function statusReconciler(given: {
  everyMs: number;
  state: StateFile;
  observe: (spec: ClusterSpec, signal: AbortSignal) => Promise<Observation>;
  seen: (observation: Observation | undefined) => void;
  now: () => Date;
  /** The cluster is no longer there although nobody asked for its deletion. */
  gone: (spec: ClusterSpec) => Promise<void>;
  /** The kubelet is newer than the control plane. */
  kubeletAhead: (spec: ClusterSpec, kubeletVersion: string) => Promise<void>;
  busy: () => boolean;
}): Reconciler {
  const { state, now } = given;
  let missing = 0;

  return {
    name: 'cluster-status-reconciler',
    everyMs: given.everyMs,
    timeoutMs: TIMEOUT_MS,
    async run(signal) {
      const { spec, installed, phase } = state.get();
      if (!installed || !spec) {
        given.seen(undefined);
        return 'there is no cluster';
      }
      const observation = await given.observe(spec, signal);
      // What was seen while an operation began is of no use: it changes what is seen.
      if (given.busy()) return 'waiting: an operation runs';
      if (!observation.installed && deletionFailed(state.get())) {
        // Nobody took it away by hand: the deletion did, and must be asked for again to put the rest back.
        missing = 0;
        given.seen(observation);
        state.observe(conditionsOf(observation, false), now());
        return 'a deletion failed half way: ask for it again';
      }
      if (!observation.installed) {
        missing++;
        if (missing < GONE_LOOKS) return 'the cluster was not found: looking again';
        missing = 0;
        given.seen(undefined);
        await state.change({ phase: 'Deleted', installed: false });
        state.observe(
          [
            {
              type: 'ClusterReady',
              status: 'False',
              reason: 'RemovedByHand',
              message: 'The cluster was removed from the machine without this agent.',
              severity: 'Error',
            },
          ],
          now(),
        );
        await given.gone(spec);
        return 'the cluster was removed by hand';
      }
      missing = 0;
      given.seen(observation);
      const ahead = kubeletAhead(observation);
      state.observe(conditionsOf(observation, ahead), now());
      const well = observation.nodeReady && observation.controlPlaneReady && observation.cniReady;
      // An operation left it half done, and a person has put it right since.
      if (phase === 'Failed' && well && same(observation.version, spec.version)) await state.change({ phase: 'Provisioned' });
      if (ahead) await given.kubeletAhead(spec, observation.kubeletVersion ?? '');
      return well ? 'the cluster is ready' : observation.message || 'the cluster is not ready';
    },
  };
}

function same(a: string | undefined, b: string | undefined): boolean {
  const [left, right] = [parseVersion(a ?? ''), parseVersion(b ?? '')];
  return left !== undefined && right !== undefined && compareVersions(left, right) === 0;
}

function kubeletAhead({ version, kubeletVersion }: Observation): boolean {
  const [plane, kubelet] = [parseVersion(version ?? ''), parseVersion(kubeletVersion ?? '')];
  return plane !== undefined && kubelet !== undefined && compareVersions(kubelet, plane) > 0;
}

function conditionsOf(observation: Observation, ahead: boolean): ConditionChange[] {
  const { nodeReady, controlPlaneReady, cniReady, message, version, kubeletVersion } = observation;
  const condition = (type: ConditionChange['type'], well: boolean, name: string): ConditionChange => ({
    type,
    status: well ? 'True' : 'False',
    reason: `${name}${well ? 'Ready' : 'NotReady'}`,
    message: well ? '' : message,
    severity: well ? '' : 'Error',
  });
  const skewed = version !== undefined && kubeletVersion !== undefined && !same(version, kubeletVersion);
  return [
    condition('ClusterReady', nodeReady && controlPlaneReady && cniReady, 'Cluster'),
    condition('ControlPlaneReady', controlPlaneReady, 'ControlPlane'),
    condition('NodeReady', nodeReady, 'Node'),
    condition('CniAddonReady', cniReady, 'Cni'),
    {
      type: 'PackageReady',
      status: skewed ? 'False' : 'True',
      reason: skewed ? 'KubeletVersionSkew' : 'VersionsMatch',
      message: skewed
        ? `The kubelet is ${kubeletVersion}, the control plane ${version}.${ahead ? ' Upgrade the cluster to the version of the kubelet.' : ''}`
        : '',
      severity: skewed ? 'Warning' : '',
    },
  ];
}
