import type { KubeClient } from '../../kube/client.ts';
import type { EventRecorder } from '../../kube/events.ts';
import type { ClusterConnections } from './connections.ts';
import type { ClusterDirectory } from './directory.ts';
import type { ClusterMetrics } from './metrics.ts';
import type { ClusterSettings } from './settings.ts';

/** What this room works with. Made once by `clusterRoom`. */
export type ClusterRoom = {
  client: KubeClient;
  directory: ClusterDirectory;
  connections: ClusterConnections;
  settings: ClusterSettings;
  events: EventRecorder;
  metrics: ClusterMetrics;
  onError: (error: unknown) => void;
};

/** The room while this replica leads. */
export type LeadingRoom = ClusterRoom & {
  signal: AbortSignal;
  /** False as soon as a renewal of the Lease is overdue. */
  holds: () => boolean;
  /** Names of clusters that are being let in, and by whom: the watch may not have them yet. */
  names: Map<string, string>;
};
