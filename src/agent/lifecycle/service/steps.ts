import type { ClusterType } from '../../../kube/lifecycle.ts';
import { invalid } from '../../../kube/status.ts';
import type { Distribution } from '../distributions/distribution.ts';
import type { OperationRequest, WrittenFile } from '../operations/request.ts';
import type { Step } from '../operations/step.ts';
import { CLUSTER } from '../spec/read-body.ts';
import { repairSteps } from './repair-steps.ts';
import { restartSteps } from './restart-steps.ts';

/** The distribution of a type. Throws a 422 when the agent has none of it. */
export type Distributions = (type: ClusterType) => Distribution;

export function strictly(find: (type: ClusterType) => Distribution | undefined): Distributions {
  return (type) => {
    const found = find(type);
    if (found) return found;
    throw invalid(CLUSTER, [
      { reason: 'FieldValueNotSupported', message: `Unsupported value: "${type}": this agent does not have it`, field: 'spec.clusterType' },
    ]);
  };
}

/** The steps of an operation. `before` of a Restart is there when the machine has a cluster. */
export function stepsOf(request: OperationRequest, distributions: Distributions, written: () => Promise<WrittenFile[]>): Step[] {
  const { type, spec, before } = request;
  const distribution = distributions(spec.clusterType);
  switch (type) {
    case 'Install':
      return distribution.install(spec);
    case 'Upgrade':
      return distribution.upgrade(spec, before ?? spec);
    case 'Patch':
      return distribution.patch(spec, before ?? spec);
    case 'Delete':
      return distribution.beforeDelete(spec);
    case 'RotateCertificates':
      return distribution.rotate(spec);
    case 'Repair':
      return repairSteps(distribution.install(spec), written);
    case 'Restart':
      return restartSteps(before && distribution);
  }
}
