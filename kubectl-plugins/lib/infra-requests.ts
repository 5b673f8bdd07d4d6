import { CLUSTERS_API, type ClusterRegistrationRequest } from '../../src/kube/clusternet.ts';
import type { Command } from './command.ts';
import { shortDuration } from './duration.ts';
import { UsageError } from './exit.ts';
import { clusterNameOf, explained, findRegistrations, isPending, REQUESTS } from './registrations.ts';
import { SHOW_FLAGS, showObjects } from './show.ts';
import type { View } from './view.ts';

/** `kubectl infra requests`. */
export const infraRequests: Command = {
  name: 'kubectl infra requests',
  usage: '[REQUEST...]',
  summary: 'Clusters that want in and wait for a decision',
  description: `kubectl infra requests - show clusters that asked to be registered and wait for kubectl infra approve or deny.

REQUEST is the name of a request, a cluster id or the name of a cluster. --all also shows requests that were decided.`,
  examples: [
    'kubectl infra requests',
    'kubectl infra requests --all -o wide',
    'kubectl infra requests edge-1 -o yaml',
    'kubectl infra requests -w',
  ],
  flags: [...SHOW_FLAGS, { name: 'all', kind: 'switch', help: 'Also requests that were approved or denied', default: 'false' }],
  words: 'requests',
  run: async (session) => {
    const { words } = session.flags;
    if (words.length > 0 && session.flags.on('all')) throw new UsageError('give either requests or --all, not both');
    const found = await findRegistrations(session.api(), words, session.signal);
    const view = { ...VIEW, keep: words.length > 0 || session.flags.on('all') ? () => true : isPending };
    const names = found.map(({ metadata }) => metadata.name);
    try {
      return await showObjects(session, `${CLUSTERS_API}/${REQUESTS}`, names, {}, view);
    } catch (error) {
      throw explained(error);
    }
  },
};

const VIEW: View<ClusterRegistrationRequest> = {
  columns: [
    { name: 'Name' },
    { name: 'Cluster' },
    { name: 'ID', wide: true },
    { name: 'Type', wide: true },
    { name: 'Sync mode', wide: true },
    { name: 'Namespace', wide: true },
    { name: 'Status' },
    { name: 'Age' },
    { name: 'Why' },
  ],
  keep: isPending,
  cells: (request, now) => {
    const { metadata, spec, status } = request;
    return [
      metadata.name,
      clusterNameOf(request) || '<none>',
      spec.clusterId,
      spec.clusterType || '<none>',
      spec.syncMode || '<none>',
      status?.dedicatedNamespace || spec.clusterNamespace || '<none>',
      status?.result || 'Pending',
      metadata.creationTimestamp ? shortDuration(now - Date.parse(metadata.creationTimestamp)) : '<unknown>',
      status?.errorMessage || (status?.result ? '' : 'the hub has not looked at it yet'),
    ];
  },
};
