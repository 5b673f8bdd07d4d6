import type { InstanceRef } from './provider-id.ts';

/** The cloud's own word on a machine's power. */
export type PowerState = 'Running' | 'Stopped' | 'Starting' | 'Stopping' | 'Rebooting' | 'Terminated' | 'Unknown';

/** What a cloud says about one instance. Times are RFC 3339. */
export type Instance = {
  powerState: PowerState;
  /** The cloud's own name of the state, for example `shutting-down`. */
  providerState: string;
  type: string;
  addresses: { type: 'InternalIP' | 'ExternalIP' | 'InternalDNS' | 'ExternalDNS'; address: string }[];
  launchTime?: string;
  image?: string;
};

/**
 * Given to every call. `beforeSend` is called as the last thing before bytes of a request that has a side effect leave the process; it throws
 * when the caller has lost the right to act (see docs/decisions on fencing), and then nothing may be sent.
 */
export type CallContext = { signal: AbortSignal; beforeSend: () => void };

export type CloudErrorKind = 'NotFound' | 'Forbidden' | 'Throttled' | 'Conflict' | 'Invalid' | 'Transient';

/**
 * A cloud's refusal or failure. `message` is for people and holds no secret. `mayHaveHappened` is true when the request could have taken effect
 * although no answer came (lost answer, 5xx): then nobody may repeat it without evidence.
 */
export class CloudError extends Error {
  readonly kind: CloudErrorKind;
  readonly mayHaveHappened: boolean;
  readonly retryAfterSeconds: number | undefined;
  /** The cloud's own code, for example `InvalidInstanceID.NotFound`. */
  readonly code: string;
  /** The cloud's own request id, when it gave one. */
  readonly requestID: string | undefined;

  constructor(
    kind: CloudErrorKind,
    code: string,
    message: string,
    options: { mayHaveHappened?: boolean; retryAfterSeconds?: number; requestID?: string; cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause });
    this.name = 'CloudError';
    this.kind = kind;
    this.code = code;
    this.mayHaveHappened = options.mayHaveHappened ?? false;
    this.retryAfterSeconds = options.retryAfterSeconds;
    this.requestID = options.requestID;
  }
}

/** What an operation may ask of a cloud. Each call is one attempt: no retries inside, the caller decides. */
export interface Cloud {
  /** `aws`, `tencent`, `alibaba`: in metrics, status and configuration. */
  readonly name: string;
  /** Whether `restart` knows `hard`; where it does not, a hard restart is a forced stop and a start. */
  readonly hardRestart: boolean;
  describe(ref: InstanceRef, context: Pick<CallContext, 'signal'>): Promise<Instance>;
  /** `dryRun` asks the cloud's own permission check where there is one (`dryRunSupported`), else describes only. Resolves when accepted. */
  restart(ref: InstanceRef, options: { mode: 'soft' | 'hard'; dryRun: boolean }, context: CallContext): Promise<void>;
  stop(ref: InstanceRef, options: { mode: 'soft' | 'hard'; dryRun: boolean }, context: CallContext): Promise<void>;
  start(ref: InstanceRef, options: { dryRun: boolean }, context: CallContext): Promise<void>;
}
