import type { AgentCluster, AuditHistory, CertificateList, OperationPlan } from '../../../kube/lifecycle.ts';

/** Who asked, for the audit history. */
export type Requester = {
  /** The parent's user; `local` when it came by the Unix socket, whose other end Node cannot tell. */
  user: string;
  /** Of the request, unique: it joins the two entries that an operation has in the history. */
  auditID: string;
};

export type Change = { requester: Requester; dryRun: boolean };

/**
 * The lifecycle of the cluster on this machine, as its API needs it. Every call rejects with StatusError (409 while another operation runs, 422 with field causes, 404 without a
 * cluster, 503 when nothing can be recorded). A change answers as soon as it is written down and begun; it goes on by itself.
 */
export type LifecycleService = {
  get(): Promise<AgentCluster>;
  create(body: unknown, change: Change): Promise<AgentCluster | OperationPlan>;
  /** PUT: another version (upgrade), or nothing to do. */
  upgrade(body: unknown, change: Change): Promise<AgentCluster | OperationPlan>;
  /** PATCH: JSON merge patch of the spec. */
  patch(body: unknown, change: Change): Promise<AgentCluster | OperationPlan>;
  delete(change: Change): Promise<AgentCluster | OperationPlan>;
  rotateCertificates(change: Change): Promise<AgentCluster | OperationPlan>;
  /** Puts files and sysctls back that are no longer as operations wrote them. */
  repair(change: Change): Promise<AgentCluster | OperationPlan>;
  restart(change: Change): Promise<AgentCluster | OperationPlan>;
  certificates(): Promise<CertificateList>;
  kubeconfig(requester: Requester): Promise<{ contents: string }>;
  audit(): Promise<AuditHistory>;
  reconcilers(): Promise<{ reconciler: { name: string; status: string }[] }>;
  /** Text lines of the operations; with follow they come as they are written, until `signal`. */
  log(options: { follow: boolean; signal: AbortSignal }): AsyncIterable<string>;
};
