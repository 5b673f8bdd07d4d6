import { type TSchema, Type } from 'typebox';
import { ClusterSpec, ClusterStatus } from '../../../kube/lifecycle.ts';

const texts = (description: string) => Type.Record(Type.String(), Type.String(), { description });
const text = (description: string) => Type.String({ description });

/** The objects of the agent's API by their names in its OpenAPI document. */
export const schemas = {
  Cluster: Type.Object(
    {
      apiVersion: text('v1alpha1.'),
      kind: text('Cluster.'),
      metadata: Type.Optional(texts('As it was given.')),
      spec: Type.Optional(ClusterSpec),
      status: Type.Optional(ClusterStatus),
    },
    { description: 'The cluster of this machine.' },
  ),
  OperationPlan: Type.Object(
    {
      apiVersion: text('v1alpha1.'),
      kind: text('OperationPlan.'),
      operation: text('What would be done.'),
      actions: Type.Array(
        Type.Object({
          step: text('Name of the step.'),
          kind: text('command, write, fetch, remove, service or wait.'),
          argv: Type.Optional(Type.Array(Type.String(), { description: 'Command and arguments.' })),
          path: Type.Optional(text('File.')),
          mode: Type.Optional(text('Mode of the file, octal.')),
          content: Type.Optional(text('Content of the file; secrets are left out.')),
          text: text('The same in words.'),
        }),
        { description: 'In their order.' },
      ),
    },
    { description: 'What ?dryRun=All answers: the exact commands and files.' },
  ),
  AuditHistory: Type.Object(
    {
      operations: Type.Array(
        Type.Object({
          sequence: Type.Integer({ description: 'From 1, without gaps.' }),
          operation: text('Install, Upgrade, Patch, Reset (deletion), Reset Certs, Repair, Restart, Kubeconfig (read) or Audit.'),
          Status: text('In Progress, Completed or Failed.'),
          reason: text('One word why.'),
          message: text('Why, for a person.'),
          lastExecuted: Type.String({ format: 'date-time', description: 'When.' }),
          clusterType: text('Distribution.'),
          currentVersion: text('Version that it leads to.'),
          requestedBy: text('Who asked.'),
          auditID: text('Audit-ID of the request; the same in both entries of an operation.'),
          operationID: text('Id of the operation, when it is known.'),
          previous: text('Hash of the entry before.'),
          hash: text('SHA-256 of this entry without its hash.'),
        }),
        { description: 'Oldest first.' },
      ),
    },
    { description: 'The audit history.' },
  ),
  Kubeconfig: Type.Object({ contents: text('YAML.') }, { description: 'A kubeconfig.' }),
  CertificateList: Type.Object(
    {
      CertsInfo: Type.Array(
        Type.Object({
          name: text('Name of the certificate.'),
          remainingDaysToExpire: text('Whole days.'),
          expiryDate: Type.String({ format: 'date-time', description: 'When it ends.' }),
          rotationDate: Type.Optional(Type.String({ format: 'date-time', description: 'When it was made.' })),
        }),
      ),
    },
    { description: 'Certificates of the cluster.' },
  ),
  Reconcilers: Type.Object(
    { reconciler: Type.Array(Type.Object({ name: text('Name.'), status: text('What was found last.') })) },
    { description: 'What is looked at again and again.' },
  ),
  Status: Type.Object(
    {
      kind: text('Status.'),
      apiVersion: text('v1.'),
      status: text('Failure.'),
      message: text('What went wrong.'),
      reason: text('One word for it.'),
      code: Type.Integer({ description: 'HTTP code.' }),
      details: Type.Optional(Type.Object({}, { description: 'Causes by field.' })),
    },
    { description: 'An error, as Kubernetes has them.' },
  ),
} satisfies Record<string, TSchema>;
