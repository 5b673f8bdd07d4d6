/** What the request path must know of a cluster. Implemented by src/hub/clusters. */
export type SocketCluster = {
  /** Cluster id, the name of its socket. */
  id: string;
  /** Name of the ManagedCluster. */
  name: string;
  namespace: string;
  /** From the ManagedCluster's status: where `direct` leads when a clusternet agent has the tunnel. */
  apiserverURL: string | undefined;
  /** For clusternet agents: the CA of the child (PEM), or the explicit wish not to verify. */
  childCA: string | undefined;
  childInsecure: boolean;
  /** Credential ids that may open the socket; undefined when none were ever recorded. */
  credentialIDs: readonly string[] | undefined;
};

/** The clusters that are approved and not deleted. All answers come from memory. */
export type SocketClusters = {
  find(id: string): SocketCluster | undefined;
  /** False until the first list is in: then nothing is known, and 404 would be a lie. */
  synced(): boolean;
  /** Tells of a cluster that was denied or deleted, or whose credentials changed. */
  onChange(listener: (id: string) => void, signal: AbortSignal): void;
  /** A socket was opened with this credential id (undefined: the caller had none). Older credentials of the cluster end. Never throws. */
  opened(id: string, credentialID: string | undefined): void;
  /** Another agent process took the cluster's socket over. Becomes an Event on the ManagedCluster. */
  takenOver(id: string, detail: string): void;
};
