/** Names and figures that hub and agent must agree on. docs/decisions/0005 has the protocol as a whole. */

/** Token of the Upgrade header; after `101` both sides speak HTTP/2 on the bare connection, the hub as the client. */
export const UPGRADE_TOKEN = 'fairlead/1';

export const SOCKETS_API = '/apis/proxies.clusternet.io/v1alpha1';
/** Where an agent opens its tunnel. kube-apiserver treats the subresource `attach` as long-running. */
export const attachPath = (clusterID: string): string => `${SOCKETS_API}/sockets/${encodeURIComponent(clusterID)}/attach`;

/** Headers of the agent's attach request. */
export const ATTACH_HEADERS = {
  /** Random, the same for all tunnels of one agent process. Another instance with the same cluster id takes over. */
  instance: 'fairlead-instance',
  version: 'fairlead-version',
  /** Identities of the replicas that this agent has a tunnel to, comma-separated: those answer 409. */
  have: 'fairlead-have',
} as const;

/** Headers of the hub's answer `101` (and of a 409: the agent has a tunnel to this replica already). */
export const ATTACHED_HEADERS = {
  /** Identity of the replica that answered. */
  replica: 'fairlead-replica',
  /** How many replicas there are. */
  replicas: 'fairlead-replicas',
} as const;

/** `:authority` of requests to the agent itself, and of those to the API server of its own cluster. */
export const AGENT_AUTHORITY = 'agent';
export const DIRECT_AUTHORITY = 'direct';

/** Who calls, on each request in the tunnel. Values are percent-encoded (encodeURIComponent), groups and extra values comma-separated. */
export const CALLER_HEADERS = {
  user: 'fairlead-user',
  uid: 'fairlead-uid',
  group: 'fairlead-group',
  extraPrefix: 'fairlead-extra-',
  /** Percent-encoded: a bearer token or a client certificate and key (base64 of PEM) of the child that the caller brought. */
  token: 'fairlead-child-token',
  certificate: 'fairlead-child-certificate',
  privateKey: 'fairlead-child-private-key',
} as const;

/** The HTTP method of a request that travels as an extended CONNECT: SPDY upgrades are POST, WebSockets GET. */
export const METHOD_HEADER = 'fairlead-method';

/**
 * The 2xx with which a target refused an upgrade; `:status` is then 502, because HTTP/2 takes any 2xx on a CONNECT for the switch. Answers of targets never bring a
 * `fairlead-` header of their own.
 */
export const REFUSED_STATUS_HEADER = 'fairlead-status';

/** On an answer that the agent made itself: the rest is a Status of the agent, not of the target. Value: the Status reason. */
export const AGENT_ERROR_HEADER = 'fairlead-error';

/** HTTP/2 pings from both sides, and silence after which the connection is given up. */
export const PING_MS = 5_000;
export const SILENCE_MS = 10_000;

/** Receive windows. One stream never has more than its window buffered; a session never more than its own. */
export const STREAM_WINDOW = 1 << 20;
export const SESSION_WINDOW = 32 << 20;
