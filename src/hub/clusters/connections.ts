/** What is known of the tunnels of one cluster, in any replica of the hub. */
export type Connection = {
  connected: boolean;
  /** Since when it is connected, or when the last tunnel ended. */
  since: Date;
  /** When the agent was last heard (a ping answered). */
  lastSeen: Date;
  roundTripMs: number | undefined;
  agentVersion: string | undefined;
  /** fairlead or clusternet. */
  protocol: string;
  tunnels: number;
};

/** The tunnels of all clusters. Implemented by src/hub/sockets. Clusters that never connected since this process began are unknown. */
export type ClusterConnections = {
  get(id: string): Connection | undefined;
};
