import type { Registry } from 'prom-client';
import type { StreamHandler } from '../../tunnel/session.ts';
import type { TargetPattern } from '../../tunnel/target.ts';

export { parseTargetPattern, type TargetPattern } from '../../tunnel/target.ts';

/** The API server of the agent's own cluster and the agent's credential there. */
export type ChildConnection = {
  /** https://host:port, without a path. */
  server: string;
  /** PEM bundle; undefined: the CAs that the process trusts (../trust.ts). */
  ca: string | undefined;
  /** Name to verify when it is not the host of `server`. */
  servername?: string;
  /** `Bearer ...` of the agent, as it is now; undefined when it has a certificate. */
  authorization: () => Promise<string | undefined>;
  /** PEM. */
  cert?: string;
  key?: string;
};

export type UpstreamOptions = {
  /** undefined on a machine without a cluster. */
  child: () => ChildConnection | undefined;
  /** What may be reached besides the own API server. */
  allowTargets: readonly TargetPattern[];
  /** PEM bundle that the certificates of other targets are verified with, besides the system's CAs. */
  targetCA: () => string | undefined;
  /** Names of users and groups beginning with `system:` that may be impersonated in the child although they are powerful there. */
  allowIdentities: readonly string[];
  /** Answers requests to the agent itself. */
  agentAPI: StreamHandler;
  registry: Registry;
  onError: (error: unknown) => void;
  /** For a log that somebody turned up: each connection to a target, and each request that was answered. Left out, they cost nothing. */
  onConnection?: (tried: ConnectionTried) => void;
  onRequest?: (answered: RequestAnswered) => void;
};

/** `ms`: until it stood, or failed with `failure`. */
export type ConnectionTried = { target: string; address?: string; ms: number; failure?: string };

/** `path` has no query; `code` is 0 for what was broken off; `ms`: until the head of the answer. */
export type RequestAnswered = { method: string; target: string; path: string; user: string; code: number; ms: number };
