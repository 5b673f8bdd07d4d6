import { type Static, Type } from 'typebox';
import { ClusterSpec, ClusterStatus, OPERATION_TYPES } from '../../kube/lifecycle.ts';
import { objectSchema } from '../http/meta.ts';

export const GROUP = 'infraops.michael.io';
export const VERSION = 'v1';
export const API_VERSION = `${GROUP}/${VERSION}`;

const schemaName = (kind: string) => `io.michael.infraops.v1.${kind}`;
const text = (description: string) => Type.Optional(Type.String({ description }));
const required = (description: string) => Type.String({ description });

export const ClusterLifecycle = objectSchema(
  schemaName('ClusterLifecycle'),
  'The single-node cluster on a machine: what it shall be, and what it is. Answered by the agent on that machine; it has the name of the cluster.',
  { spec: Type.Optional(ClusterSpec), status: Type.Optional(ClusterStatus) },
);
export type ClusterLifecycle = Static<typeof ClusterLifecycle>;

export const OperationPlan = objectSchema(schemaName('OperationPlan'), 'What a dry run answers: exactly what would be done, in order.', {
  operation: Type.Unsafe<(typeof OPERATION_TYPES)[number]>(Type.String({ enum: [...OPERATION_TYPES], description: 'What would be done.' })),
  actions: Type.Array(
    Type.Object({
      step: required('Step of the operation.'),
      kind: required('command, write, fetch, remove, service or wait.'),
      argv: Type.Optional(Type.Array(Type.String(), { description: 'The command.' })),
      path: text('The file.'),
      mode: text('Mode of the file.'),
      content: text('Text of the file; secrets are left out.'),
      text: required('What is done, in words.'),
    }),
    { description: 'In order.' },
  ),
});

export const ClusterCertificates = objectSchema(schemaName('ClusterCertificates'), "The certificates of the cluster's control plane.", {
  CertsInfo: Type.Array(
    Type.Object({
      name: required('Name of the certificate.'),
      remainingDaysToExpire: required('Whole days that are left.'),
      expiryDate: required('When it ends.'),
      rotationDate: text('When it was made anew.'),
    }),
    { description: 'One entry a certificate.' },
  ),
});
export type ClusterCertificates = Static<typeof ClusterCertificates>;

export const ClusterAudit = objectSchema(
  schemaName('ClusterAudit'),
  'What was done to the cluster, by whom and when: entries that are chained by hashes, so that a change of any of them shows.',
  {
    operations: Type.Array(
      Type.Object({
        sequence: Type.Integer({ description: 'From 1, without gaps.' }),
        operation: required('What was done.'),
        Status: required('In Progress, Completed or Failed.'),
        reason: required('One word why.'),
        message: required('For a person.'),
        lastExecuted: required('When.'),
        clusterType: required('Distribution.'),
        currentVersion: required('Version of Kubernetes.'),
        requestedBy: required('Who asked.'),
        auditID: required('Audit-ID of the request.'),
        operationID: required('Id of the operation.'),
        previous: required('Hash of the entry before.'),
        hash: required('SHA-256 of the entry without this field.'),
      }),
      { description: 'Oldest first.' },
    ),
    omitted: Type.Optional(
      Type.Integer({
        description:
          'How many entries, from the first on, were left out because the history is too long for one answer. The chain goes on behind them.',
      }),
    ),
  },
);
export type ClusterAudit = Static<typeof ClusterAudit>;

export const ClusterKubeconfig = objectSchema(schemaName('ClusterKubeconfig'), "The administrator's kubeconfig of the cluster.", {
  contents: required('The kubeconfig, YAML.'),
});

export const ClusterActionOptions = objectSchema(schemaName('ClusterActionOptions'), 'How to restart or repair the machine of a cluster.', {
  dryRun: Type.Optional(
    Type.Array(Type.Literal('All'), { description: 'With All the answer is what would be done, and nothing is changed.', maxItems: 1 }),
  ),
});
