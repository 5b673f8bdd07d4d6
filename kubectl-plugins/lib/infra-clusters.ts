import { API } from './api.ts';
import { clusterName, isClusterID, readCluster } from './clusters.ts';
import type { Command } from './command.ts';
import { UsageError } from './exit.ts';
import { SHOW_FLAGS, showObjects } from './show.ts';

/** `kubectl infra clusters`. */
export const infraClusters: Command = {
  name: 'kubectl infra clusters',
  usage: '[CLUSTER...]',
  summary: 'Child clusters: connected or not, round trip, versions',
  description: `kubectl infra clusters - show the child clusters that are registered here.

CLUSTER is a name or a cluster id. Clusters that wait for approval are not among them: see kubectl infra requests.`,
  examples: [
    'kubectl infra clusters',
    'kubectl infra clusters edge-1 -o yaml',
    'kubectl infra clusters -l site=bern -o wide',
    'kubectl infra clusters -w',
  ],
  flags: [...SHOW_FLAGS, { name: 'selector', short: 'l', kind: 'text', placeholder: 'SELECTOR', help: 'Only clusters with these labels' }],
  words: 'clusters',
  run: async (session) => {
    let names = [...new Set(session.flags.words.map(clusterName))];
    const selector = session.flags.text('selector');
    if (names.length > 0 && selector) throw new UsageError('give either names of clusters or --selector, not both');
    const [only] = names;
    if (session.flags.on('watch') && names.length === 1 && only !== undefined && isClusterID(only)) {
      // A watch selects by name, and the word is an id.
      names = [(await readCluster(session.api(), only, session.signal)).metadata?.name ?? only];
    }
    return await showObjects(session, `${API}/clusters`, names, { labelSelector: selector });
  },
};
