import { type ClusterRegistrationRequest, registrationName } from '../../kube/clusternet.ts';
import { seal } from '../../tunnel/seal.ts';
import type { ClusterDirectory } from './directory.ts';
import { isClusterID } from './names.ts';

const DNS_NAME = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const DNS_LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;

/** Why a request cannot be granted as it is; undefined when it makes sense. */
export function malformed({ metadata, spec }: ClusterRegistrationRequest): string | undefined {
  const { clusterId, clusterName, clusterNamespace, sealingKey } = spec;
  if (!isClusterID(clusterId)) return 'spec.clusterId is not a UUID in lower case';
  if (metadata.name !== registrationName(clusterId)) return `the name must be ${registrationName(clusterId)}, after spec.clusterId`;
  if (clusterName && (clusterName.length > 60 || !DNS_NAME.test(clusterName)))
    return 'spec.clusterName must be at most 60 of a-z, 0-9, "-" and "."';
  if (clusterNamespace) {
    if (clusterNamespace.length > 63 || !DNS_LABEL.test(clusterNamespace)) return 'spec.clusterNamespace is not the name of a namespace';
    if (clusterNamespace === 'default' || clusterNamespace.startsWith('kube-'))
      return `the namespace ${clusterNamespace} belongs to Kubernetes`;
  }
  if (sealingKey) {
    try {
      seal(sealingKey, '', clusterId);
    } catch {
      return 'spec.sealingKey is not an X25519 public key (SubjectPublicKeyInfo in DER, base64)';
    }
  }
  return undefined;
}

/**
 * Why a cluster cannot have its name or id because another has it; undefined when it can. The name is then reserved in `names`. Nothing is told of the other:
 * who asks may be a stranger.
 */
export function clash(
  id: string,
  name: string,
  namespace: string,
  directory: Pick<ClusterDirectory, 'clusters'>,
  names: Map<string, string>,
): string | undefined {
  for (const { metadata, spec } of directory.clusters.values()) {
    if (metadata.name === name && spec.clusterId !== id) return `another cluster is called ${name}: choose another name`;
    if (spec.clusterId === id && metadata.namespace !== namespace)
      return `another ManagedCluster has this id, in namespace ${metadata.namespace}: delete it, or give this cluster an id of its own`;
  }
  const holder = names.get(name);
  if (holder !== undefined && holder !== id) return `another cluster is called ${name}: choose another name`;
  names.set(name, id);
  return undefined;
}
