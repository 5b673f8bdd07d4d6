import type { Column } from '../http/resource.ts';
import type { InfraCluster } from './schema.ts';

type ClusterColumn = Column<InfraCluster>;

const shown = (name: string, description: string, value: ClusterColumn['value'], priority: 0 | 1 = 0): ClusterColumn => ({
  name,
  type: 'string',
  description,
  priority,
  value,
});

/** Columns of InfraCluster. */
export const clusterColumns: ClusterColumn[] = [
  { ...shown('Name', 'Name of the cluster.', ({ metadata }) => metadata?.name ?? ''), format: 'name' },
  shown('Type', 'Kind of cluster.', ({ spec }) => spec.type ?? ''),
  shown('Version', 'Version of Kubernetes.', ({ status }) => status.version ?? ''),
  shown('Status', 'Readiness of the cluster.', ({ status }) => status.phase),
  shown('Connected', 'Whether it has a tunnel.', ({ status }) => String(status.connected)),
  shown('Latency', 'Round trip through the tunnel.', ({ status }) =>
    status.roundTripMilliseconds === undefined ? '' : `${status.roundTripMilliseconds}ms`,
  ),
  shown('Agent', 'Version of its agent.', ({ status }) => status.agentVersion ?? ''),
  {
    name: 'Age',
    type: 'date',
    description: 'Time since it was let in.',
    value: ({ metadata }) => metadata?.creationTimestamp ?? '',
  },
  shown('ID', 'Id of the cluster.', ({ spec }) => spec.clusterID, 1),
  {
    name: 'Last-Seen',
    type: 'date',
    description: 'Time since its agent was heard.',
    priority: 1,
    value: ({ status }) => status.lastSeen ?? null,
  },
  { name: 'Tunnels', type: 'integer', description: 'Tunnels to all replicas.', priority: 1, value: ({ status }) => status.tunnels ?? 0 },
  shown('Protocol', 'Protocol of the tunnel.', ({ status }) => status.protocol ?? '', 1),
  shown('Distribution', 'Distribution of Kubernetes.', ({ status }) => status.distribution ?? '', 1),
  shown('Platform', 'Operating system and architecture.', ({ status }) => status.platform ?? '', 1),
  shown('Namespace', 'Namespace of the ManagedCluster.', ({ spec }) => spec.namespace, 1),
];
