import { badRequest } from '../../kube/status.ts';
import { isClusterID } from './names.ts';

/** Fields of InfraCluster that can be selected, and those of ManagedCluster behind them. */
const FIELDS: Record<string, string> = {
  'metadata.name': 'metadata.name',
  'spec.namespace': 'metadata.namespace',
  'spec.clusterID': 'spec.clusterId',
};
export const CLUSTER_FIELDS = Object.keys(FIELDS);

/**
 * The field selector for ManagedClusters. A name that is a cluster id selects by id: a cluster is found under both. Throws StatusError 400, in
 * kube-apiserver's words.
 */
export function clusterFieldSelector(text: string): string {
  return text
    .split(',')
    .filter((term) => term !== '')
    .map((term) => {
      const match = /^([^=!\\]+)(==|=|!=)([^\\,=]*)$/.exec(term);
      if (!match) throw badRequest(`invalid field selector: ${JSON.stringify(term.slice(0, 64))}; can't understand it`);
      const [, field = '', operator, value = ''] = match;
      const behind = Object.hasOwn(FIELDS, field) ? FIELDS[field] : undefined;
      if (behind === undefined) throw badRequest(`field label not supported: ${field.slice(0, 64)}`);
      return `${field === 'metadata.name' && isClusterID(value) ? 'spec.clusterId' : behind}${operator}${value}`;
    })
    .join(',');
}
