import type { ClusterSpec, LifecycleOperation, OperationPlan, OperationType } from '../../../kube/lifecycle.ts';
import type { Requester } from '../api/service.ts';

/** What was asked for. `spec` and `before` go to the journal: they hold no password (a reference to a file instead). */
export type OperationRequest = {
  type: OperationType;
  spec: ClusterSpec;
  before: ClusterSpec | undefined;
  requester: Requester;
  version: string;
};

/**
 * A file that an operation wrote. `mode` has the permission bits only. What it can be made of again: `content`, of a small file that everybody on the machine may read, or the `artifact` that
 * it is. A file that may hold a secret has neither.
 */
export type WrittenFile = { path: string; digest: string; mode: number; content?: string; artifact?: string };

export type EndListener = (request: OperationRequest, operation: LifecycleOperation) => Promise<void>;

/** Runs one operation at a time, on its own once begun, through crashes and failures. */
export type OperationManager = {
  /** Takes up what a crash left. Resolves when it is known what that is (it goes on by itself). Listeners are given before. */
  start(): Promise<void>;
  /** Rejects with StatusError: 409 while one runs, 503 when the journal cannot be written (disk full, read-only). Resolves when it is written down. */
  begin(request: OperationRequest): Promise<LifecycleOperation>;
  /** The exact commands and files. Changes nothing. Rejects with StatusError 409 when the first step that looks refuses the machine as it is. */
  plan(request: OperationRequest): Promise<OperationPlan>;
  /** The operation that runs, or else the last one. */
  last(): LifecycleOperation | undefined;
  /** Called when an operation has ended, again after a crash in between, and again when it throws: must be idempotent. No other operation begins before. */
  onEnd(listener: EndListener): void;
  /** Lines `TIME STEP TEXT` of the operations that are kept, then, with follow, as they are written, until `signal`. */
  log(options: { follow: boolean; signal: AbortSignal }): AsyncIterable<string>;
  /** Files that operations wrote and that shall be there, for finding drift. */
  written(): Promise<WrittenFile[]>;
  /** Whether something runs, has ended and is just being recorded, or is in the way: `begin` would be refused. */
  busy(): boolean;
  /** Resolves when nothing runs any more: the operation has ended and the listeners have heard of it, or the agent stops. */
  settled(): Promise<void>;
  /** Ends the command that runs; nothing is undone, the next start goes on. */
  stop(): Promise<void>;
};
