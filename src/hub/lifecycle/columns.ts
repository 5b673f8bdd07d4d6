import type { Column } from '../http/resource.ts';
import type { ClusterAudit, ClusterCertificates, ClusterLifecycle } from './schema.ts';

const shown = <T>(name: string, description: string, value: Column<T>['value'], priority: 0 | 1 = 0): Column<T> => ({
  name,
  type: 'string',
  description,
  priority,
  value,
});
const named = <T extends { metadata?: { name?: string } }>(): Column<T> => ({
  ...shown<T>('Name', 'Name of the cluster.', ({ metadata }) => metadata?.name ?? ''),
  format: 'name',
});

/** `Install: 4/12 kubeadm-init`, or how the last operation ended. */
function operationText({ status }: ClusterLifecycle): string {
  const operation = status?.operation;
  if (!operation) return '';
  if (operation.phase === 'Succeeded' || operation.phase === 'Failed') return `${operation.type} ${operation.phase}`;
  const done = operation.steps.filter(({ state }) => state === 'Done' || state === 'Skipped').length;
  const current = operation.steps.find(({ state }) => state === 'Running' || state === 'Undoing')?.name ?? '';
  return `${operation.type}: ${done}/${operation.steps.length} ${current}`.trimEnd();
}

const conditionOf = ({ status }: ClusterLifecycle, type: string) => status?.conditions?.find((one) => one.type === type)?.status ?? '';

/** Columns of ClusterLifecycle. */
export const lifecycleColumns: Column<ClusterLifecycle>[] = [
  named(),
  shown('Type', 'Distribution.', ({ spec }) => spec?.clusterType ?? ''),
  shown('Version', 'Version of Kubernetes that runs.', ({ status }) => status?.kubernetesVersion ?? ''),
  shown('Phase', 'Where in its life the cluster is.', ({ status }) => status?.phase ?? ''),
  shown('Ready', 'Whether the cluster is ready.', (object) => conditionOf(object, 'ClusterReady')),
  shown('Operation', 'What runs, or ran last.', operationText),
  shown('Kubelet', "Version of the node's kubelet.", ({ status }) => status?.kubeletVersion ?? '', 1),
  shown('Boot-ID', 'Boot id of the machine.', ({ status }) => status?.bootID ?? '', 1),
];

/** Columns of ClusterCertificates. */
export const certificateColumns: Column<ClusterCertificates>[] = [
  named(),
  { name: 'Certificates', type: 'integer', description: 'How many there are.', value: ({ CertsInfo }) => CertsInfo.length },
  shown('First-Expiry', 'When the first one ends.', ({ CertsInfo }) => CertsInfo.map(({ expiryDate }) => expiryDate).sort()[0] ?? ''),
];

/** Columns of ClusterAudit. */
export const auditColumns: Column<ClusterAudit>[] = [
  named(),
  {
    name: 'Entries',
    type: 'integer',
    description: 'How many there are.',
    value: ({ operations, omitted = 0 }) => omitted + operations.length,
  },
  shown('Last', 'What was done last.', ({ operations }) => operations.at(-1)?.operation ?? ''),
  shown('Status', 'How that went.', ({ operations }) => operations.at(-1)?.Status ?? ''),
  { name: 'Age', type: 'date', description: 'Time since then.', value: ({ operations }) => operations.at(-1)?.lastExecuted ?? null },
];
