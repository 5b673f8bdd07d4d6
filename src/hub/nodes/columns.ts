import type { Column } from '../http/resource.ts';
import type { InfraNode, NodeInstance, NodeOperation } from './schema.ts';

type Named = { metadata?: { name?: string; creationTimestamp?: string } };

const name: Column<Named> = {
  name: 'Name',
  type: 'string',
  format: 'name',
  description: 'Name of the object.',
  value: (object) => object.metadata?.name ?? '',
};
const age: Column<Named> = {
  name: 'Age',
  type: 'date',
  description: 'Time since it was made.',
  value: (object) => object.metadata?.creationTimestamp ?? '',
};

export const nodeColumns: Column<InfraNode>[] = [
  name,
  {
    name: 'Status',
    type: 'string',
    description: 'Readiness, and whether the node is cordoned.',
    value: ({ spec, status }) =>
      `${status?.ready === 'True' ? 'Ready' : status?.ready === 'False' ? 'NotReady' : 'Unknown'}${spec?.unschedulable ? ',SchedulingDisabled' : ''}`,
  },
  { name: 'Cloud', type: 'string', description: 'Cloud of the machine.', value: ({ status }) => status?.machine?.cloud ?? '<unsupported>' },
  {
    name: 'Instance',
    type: 'string',
    description: "The cloud's id of the machine.",
    value: ({ status }) => status?.machine?.instanceID ?? '',
  },
  { name: 'Zone', type: 'string', description: 'Zone of the machine.', value: ({ status }) => status?.machine?.zone ?? '' },
  { name: 'Operation', type: 'string', description: 'Operation that runs on it.', value: ({ status }) => status?.operation ?? '' },
  {
    name: 'Last-Restart',
    type: 'date',
    description: 'Time since the last restart through this API.',
    value: ({ status }) => status?.lastRestart?.time ?? null,
  },
  age,
  {
    name: 'Region',
    type: 'string',
    priority: 1,
    description: 'Region of the machine.',
    value: ({ status }) => status?.machine?.region ?? '',
  },
  {
    name: 'Account',
    type: 'string',
    priority: 1,
    description: 'Entry of the accounts file.',
    value: ({ status }) => status?.machine?.account ?? '',
  },
  {
    name: 'Restarted-By',
    type: 'string',
    priority: 1,
    description: 'Who asked for the last restart.',
    value: ({ status }) => status?.lastRestart?.requestedBy ?? '',
  },
  {
    name: 'Boot-ID',
    type: 'string',
    priority: 1,
    description: 'bootID that the kubelet reported last.',
    value: ({ status }) => status?.bootID ?? '',
  },
];

export const operationColumns: Column<NodeOperation>[] = [
  name,
  { name: 'Node', type: 'string', description: 'The node.', value: ({ spec }) => spec.nodeName },
  { name: 'Action', type: 'string', description: 'What is done with its machine.', value: ({ spec }) => spec.action },
  { name: 'Phase', type: 'string', description: 'How far it is.', value: ({ status }) => status?.phase ?? '' },
  { name: 'Requested-By', type: 'string', description: 'Who asked for it.', value: ({ spec }) => spec.requestedBy.username },
  age,
  { name: 'Reason', type: 'string', priority: 1, description: 'Why it ended, in one word.', value: ({ status }) => status?.reason ?? '' },
  {
    name: 'Message',
    type: 'string',
    priority: 1,
    description: 'What is happening, or why it ended.',
    value: ({ status }) => status?.message ?? '',
  },
  {
    name: 'Instance',
    type: 'string',
    priority: 1,
    description: "The cloud's id of the machine.",
    value: ({ status }) => status?.machine?.instanceID ?? '',
  },
  { name: 'Holder', type: 'string', priority: 1, description: 'Replica that runs it.', value: ({ status }) => status?.holder ?? '' },
];

export const instanceColumns: Column<NodeInstance>[] = [
  name,
  { name: 'Instance', type: 'string', description: "The cloud's id of the machine.", value: ({ machine }) => machine.instanceID },
  { name: 'Power', type: 'string', description: 'Power state.', value: ({ status }) => status.powerState },
  { name: 'Type', type: 'string', description: 'Instance type.', value: ({ status }) => status.type },
  {
    name: 'Addresses',
    type: 'string',
    description: 'Addresses of the machine.',
    value: ({ status }) => status.addresses.map((a) => a.address).join(','),
  },
  { name: 'Launched', type: 'date', description: 'Time since it was launched.', value: ({ status }) => status.launchTime ?? null },
  { name: 'Cloud', type: 'string', priority: 1, description: 'Cloud of the machine.', value: ({ machine }) => machine.cloud },
  { name: 'Region', type: 'string', priority: 1, description: 'Region of the machine.', value: ({ machine }) => machine.region },
  {
    name: 'Provider-State',
    type: 'string',
    priority: 1,
    description: "The cloud's own word.",
    value: ({ status }) => status.providerState,
  },
];
