import { type Static, Type } from 'typebox';
import { objectSchema } from '../http/meta.ts';

export const GROUP = 'infraops.michael.io';
export const VERSION = 'v1';
export const API_VERSION = `${GROUP}/${VERSION}`;

const schemaName = (kind: string) => `io.michael.infraops.v1.${kind}`;
const time = (description: string) => Type.String({ format: 'date-time', description });
const text = (description: string) => Type.Optional(Type.String({ description }));
const flag = (description: string) => Type.Optional(Type.Boolean({ description }));
const seconds = (description: string, maximum: number) => Type.Optional(Type.Integer({ minimum: 0, maximum, description }));

/** Fields that every action takes. */
const commonOptions = {
  dryRun: Type.Optional(
    Type.Array(Type.Literal('All'), {
      description: "With All every guard and the cloud's own check run, and nothing is changed.",
      maxItems: 1,
    }),
  ),
  force: flag('Act although guards refuse. Needs the verb "force" on the same subresource.'),
  reason: Type.Optional(Type.String({ maxLength: 1024, description: 'Why; kept with the operation, in Events and in the audit log.' })),
  requestID: Type.Optional(
    Type.String({
      pattern: '^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$',
      description:
        'Chosen by the client: the same id for the same node and action gives the operation that is there already, never a second one.',
    }),
  ),
  timeoutSeconds: seconds('How long the operation may take after draining, in seconds. 0 or absent: the default of the server.', 86_400),
};

const drainOptions = {
  drain: flag('Cordon the node and evict its pods first; uncordon it afterwards unless it was cordoned before.'),
  ignoreDaemonSets: flag('Leave pods of DaemonSets in place (default true); false refuses when there are any, as kubectl drain does.'),
  deleteEmptyDirData: flag('Evict pods that use emptyDir although their data is lost.'),
  evictUnmanaged: flag('Evict pods that no controller would bring back (--force of kubectl drain).'),
  disableEviction: flag('Delete the pods instead of evicting them, past disruption budgets. Needs the verb "force".'),
  podSelector: text('Only pods with these labels are evicted.'),
  gracePeriodSeconds: Type.Optional(
    Type.Integer({ minimum: -1, maximum: 86_400, description: "Seconds each pod gets to end; -1 or absent: the pod's own." }),
  ),
  skipWaitForDeleteTimeoutSeconds: seconds('Do not wait for pods whose deletion is older than this, in seconds. 0: wait for all.', 86_400),
  drainTimeoutSeconds: seconds('How long draining may take, in seconds. 0 or absent: the default of the server.', 86_400),
};

const hard = { hard: flag('Reset the machine without asking its operating system. Default: a soft restart or shutdown.') };

export const RestartOptions = objectSchema(schemaName('RestartOptions'), 'How to restart a node.', {
  ...hard,
  ...drainOptions,
  ...commonOptions,
});
export type RestartOptions = Static<typeof RestartOptions>;
export const StopOptions = objectSchema(schemaName('StopOptions'), 'How to stop a node.', { ...hard, ...drainOptions, ...commonOptions });
export type StopOptions = Static<typeof StopOptions>;
export const StartOptions = objectSchema(schemaName('StartOptions'), 'How to start a node.', commonOptions);
export type StartOptions = Static<typeof StartOptions>;
export const CancelOptions = objectSchema(schemaName('CancelOptions'), 'How to cancel an operation.', {
  reason: Type.Optional(Type.String({ maxLength: 1024, description: 'Why; kept with the operation.' })),
});
export type CancelOptions = Static<typeof CancelOptions>;

export const ACTIONS = ['Restart', 'Stop', 'Start'] as const;
export type Action = (typeof ACTIONS)[number];

/** In order; the last three are final. */
export const PHASES = [
  'Pending',
  'Draining',
  'Stopping',
  'Restarting',
  'Starting',
  'WaitingForReady',
  'Succeeded',
  'Failed',
  'Cancelled',
] as const;
export type Phase = (typeof PHASES)[number];

const literals = <const T extends readonly string[]>(values: T, description: string) =>
  Type.Unsafe<T[number]>(Type.String({ enum: [...values], description }));

const Machine = Type.Object(
  {
    cloud: Type.String({ description: 'aws, tencent or alibaba.' }),
    account: text('Entry of the accounts file whose credentials are used; absent for the default ones.'),
    region: Type.String({ description: 'Region of the cloud.' }),
    zone: text('Zone of the cloud.'),
    instanceID: Type.String({ description: "The cloud's id of the instance." }),
  },
  { description: 'The machine under the node.' },
);

/** One guard's verdict. */
export const GuardResult = Type.Object({
  guard: Type.String({ description: 'Name of the guard, for example ControlPlaneQuorum.' }),
  passed: Type.Boolean({ description: 'Whether the guard lets the operation through.' }),
  forceable: Type.Optional(Type.Boolean({ description: 'False for a guard that force cannot pass over.' })),
  message: Type.String({ description: 'The evidence.' }),
  remedy: text('What would clear it, as a command where there is one.'),
});
export type GuardResult = Static<typeof GuardResult>;

const CloudCall = Type.Object({
  action: literals(['RestartSoft', 'RestartHard', 'StopSoft', 'StopHard', 'Start'], 'What was asked of the cloud.'),
  attempt: Type.Integer({ minimum: 1, description: 'Counts the calls of this action in this operation.' }),
  state: literals(
    ['Sending', 'Accepted', 'Refused', 'Unknown'],
    'Sending is written before the call; Unknown means that the call may have taken effect although no answer came.',
  ),
  time: time('When the state was written.'),
  code: text("The cloud's error code."),
  message: text("The cloud's error message."),
});
export type CloudCall = Static<typeof CloudCall>;

export const NodeOperation = objectSchema(
  schemaName('NodeOperation'),
  'One restart, stop or start of the machine under a node: what was asked for, by whom, and how far it got.',
  {
    spec: Type.Object(
      {
        nodeName: Type.String({ description: 'The node.' }),
        action: literals(ACTIONS, 'What to do with its machine.'),
        ...hard,
        ...drainOptions,
        force: commonOptions.force,
        reason: commonOptions.reason,
        requestID: commonOptions.requestID,
        dryRun: commonOptions.dryRun,
        timeoutSeconds: commonOptions.timeoutSeconds,
        requestedBy: Type.Object(
          {
            username: Type.String({ description: 'User name.' }),
            groups: Type.Optional(Type.Array(Type.String(), { description: 'Groups.' })),
          },
          { description: 'Who asked.' },
        ),
        auditID: text("Audit-ID of the request, the same as in kube-apiserver's audit log."),
      },
      { description: 'What was asked for. Does not change.' },
    ),
    status: Type.Optional(
      Type.Object(
        {
          phase: literals(PHASES, 'How far the operation is.'),
          reason: text('Why it ended, in one word.'),
          message: text('What is happening, or why it ended.'),
          startTime: Type.Optional(time('When it left Pending.')),
          completionTime: Type.Optional(time('When it ended.')),
          machine: Type.Optional(Machine),
          bootIDBefore: text('bootID of the node when the operation began.'),
          readyBefore: flag('Whether the node was Ready before the machine was acted on.'),
          bootIDAfter: text('bootID of the node when it ended.'),
          unschedulableBefore: flag('Whether the node was cordoned before; then it stays so.'),
          cordonedByOperation: flag('Whether the operation cordoned the node and has not yet uncordoned it.'),
          cancelRequested: text('Who asked to cancel it.'),
          holder: text('Replica that runs it.'),
          podsToEvict: Type.Optional(Type.Integer({ description: 'Pods that draining evicts.' })),
          podsEvicted: Type.Optional(Type.Integer({ description: 'Pods that are gone.' })),
          guards: Type.Optional(Type.Array(GuardResult, { description: 'What the guards said when the operation was admitted.' })),
          calls: Type.Optional(Type.Array(CloudCall, { description: "The calls of the cloud's API that have an effect, in order." })),
          history: Type.Optional(
            Type.Array(
              Type.Object({ phase: literals(PHASES, 'Phase.'), time: time('When it began.'), message: text('What was known then.') }),
              { description: 'The phases so far.' },
            ),
          ),
        },
        { description: 'How far it got.' },
      ),
    ),
  },
);
export type NodeOperation = Static<typeof NodeOperation>;
export type NodeOperationStatus = NonNullable<NodeOperation['status']>;
export type NodeOperationSpec = NodeOperation['spec'];

export const InfraNode = objectSchema(
  schemaName('InfraNode'),
  'A node as the infrastructure sees it: a view over the core Node of the same name.',
  {
    spec: Type.Optional(
      Type.Object(
        { providerID: text('spec.providerID of the core Node.'), unschedulable: flag('Whether the node is cordoned.') },
        { description: 'What the core Node says.' },
      ),
    ),
    status: Type.Optional(
      Type.Object(
        {
          ready: literals(['True', 'False', 'Unknown'], 'Condition Ready of the node.'),
          bootID: text('bootID that the kubelet reported last.'),
          controlPlane: flag('Whether the node carries a control plane.'),
          machine: Type.Optional(Machine),
          unsupported: text('Why operations on this node are refused, when they are.'),
          operation: text('Name of the operation that runs on this node.'),
          lastRestart: Type.Optional(
            Type.Object(
              { time: time('When it was finished.'), operation: text('Name of the operation.'), requestedBy: text('Who asked for it.') },
              { description: 'The last restart through this API.' },
            ),
          ),
        },
        { description: 'What is known of the machine.' },
      ),
    ),
  },
);
export type InfraNode = Static<typeof InfraNode>;

export const NodeInstance = objectSchema(
  schemaName('NodeInstance'),
  "The cloud's own word on the machine under a node, asked at the moment of the request.",
  {
    machine: Machine,
    status: Type.Object(
      {
        powerState: literals(
          ['Running', 'Stopped', 'Starting', 'Stopping', 'Rebooting', 'Terminated', 'Unknown'],
          'Power state, in common words.',
        ),
        providerState: Type.String({ description: "Power state in the cloud's words." }),
        type: Type.String({ description: 'Instance type.' }),
        addresses: Type.Array(
          Type.Object({
            type: literals(['InternalIP', 'ExternalIP', 'InternalDNS', 'ExternalDNS'], 'Kind of the address.'),
            address: Type.String({ description: 'The address.' }),
          }),
          { description: 'Addresses of the instance.' },
        ),
        launchTime: Type.Optional(time('When the instance was launched.')),
        image: text('Image it was made from.'),
      },
      { description: 'What the cloud says.' },
    ),
  },
);
export type NodeInstance = Static<typeof NodeInstance>;
