import type { Command } from './command.ts';
import { decide } from './decide.ts';
import { dryRunFlag } from './dry-run.ts';
import type { Flag } from './flags.ts';

const FLAGS: readonly Flag[] = [
  { name: 'reason', kind: 'text', placeholder: 'TEXT', help: 'Why; kept with the request as an annotation' },
  dryRunFlag('show what would be decided', 'have the API server check it, and change nothing'),
  { name: 'wait', kind: 'switch', help: 'Wait until the hub has carried it out', default: 'true' },
  { name: 'timeout', kind: 'text', placeholder: 'DURATION', help: 'How long to wait, for all of them', default: '30s' },
  { name: 'output', short: 'o', kind: 'text', placeholder: 'FORM', help: 'json, yaml or name', choices: ['json', 'yaml', 'name'] },
];

const WORDS =
  'CLUSTER is the name of a cluster, its id, or the name of its request (kubectl infra requests). A name that several clusters gave themselves is refused.';

/** `kubectl infra approve`. */
export const infraApprove: Command = {
  name: 'kubectl infra approve',
  usage: 'CLUSTER...',
  summary: 'Let clusters in that asked to be registered',
  description: `kubectl infra approve - let clusters in that asked to be registered.

${WORDS}
The hub then makes the cluster's namespace and credentials. The agent of a cluster that was let in before, and denied, needs a bootstrap token to fetch
them (kubectl infra join-command). When it refuses (a clash of names or ids), its reason is shown and the exit code is 3.
RBAC: "get", "list", "watch", "patch" and "approve" on clusterregistrationrequests of clusters.clusternet.io (ClusterRole fairlead:cluster-approver).`,
  examples: [
    'kubectl infra approve edge-1',
    'kubectl infra approve 6f1a2f0c-3f0e-4c0c-9a2b-6d1d2f3a4b5c --reason="ticket 4711"',
    'kubectl infra approve edge-1 edge-2 --dry-run=server',
  ],
  flags: FLAGS,
  words: 'requests',
  run: (session) => decide(session, 'Approved'),
};

/** `kubectl infra deny`. */
export const infraDeny: Command = {
  name: 'kubectl infra deny',
  usage: 'CLUSTER...',
  summary: 'Refuse clusters, or cut those off that were let in',
  description: `kubectl infra deny - refuse clusters that asked to be registered, or cut those off that were let in.

${WORDS}
A cluster that was let in loses its tunnel and its credentials at once. kubectl infra approve lets it in again; its agent then needs a bootstrap
token to fetch the new credentials (kubectl infra join-command), because the one it came with has usually ended or was deleted.
RBAC: "get", "list", "watch", "patch" and "approve" on clusterregistrationrequests of clusters.clusternet.io (ClusterRole fairlead:cluster-approver).`,
  examples: [
    'kubectl infra deny edge-9 --reason="not ours"',
    'kubectl infra deny clusternet-6f1a2f0c-3f0e-4c0c-9a2b-6d1d2f3a4b5c --wait=false',
  ],
  flags: FLAGS,
  words: 'requests',
  run: (session) => decide(session, 'Denied'),
};
