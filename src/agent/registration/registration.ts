import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { KubeClient } from '../../kube/client.ts';
import { type ClusterRegistrationRequest, registrationName } from '../../kube/clusternet.ts';
import { isNotFound } from '../../kube/errors.ts';
import { type SealingKeys, sealingKeys } from '../../tunnel/seal.ts';
import { backoff } from '../backoff.ts';
import { type Refusals, refusals } from './refusals.ts';
import { type ClusterDescription, registrationRequest } from './request.ts';
import { isRefused, type Requests, requestsOf } from './requests.ts';
import type { Credential, Store } from './store.ts';
import { type RegistrationTiming, TIMING } from './timing.ts';
import { credentialIn, renewalTime, SealedToAnotherKey } from './token.ts';

export type RegistrationOptions = {
  clusterId: string;
  cluster: ClusterDescription;
  parentURL: string;
  /** A client of the parent with this bearer token. */
  client: (token: string) => KubeClient;
  /** Undefined: there is none. */
  bootstrapToken: () => Promise<string | undefined>;
  store: Store;
  signal: AbortSignal;
  /** What a person should know; the same text is told once in a row. */
  say: (level: 'info' | 'warn' | 'error', text: string) => void;
  timing?: Partial<RegistrationTiming>;
  now?: () => number;
};

export type Registration = {
  /** Undefined while this cluster is not let in. */
  credential(): Credential | undefined;
  /** Told of each new credential, and of its end. */
  onChange(listener: () => void, signal: AbortSignal): void;
  /** The parent refused this credential somewhere: it is looked into. */
  refused(credential: Credential): void;
  /** Why there is no credential, in words; undefined while there is one. */
  waitingFor(): string | undefined;
  /** Resolves when the signal was aborted and nothing runs any more. */
  ended: Promise<void>;
};

/** A request is looked at more often in its first minute. */
const QUICK_MS = 60_000;
const QUICK_FACTOR = 3;
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Gets this cluster into the parent and keeps it there: registers, waits for approval, renews the token before it ends, and registers again when it was refused. */
export function keepRegistered(options: RegistrationOptions): Registration {
  const { clusterId, store, signal, say } = options;
  const timing = { ...TIMING, ...options.timing };
  const now = options.now ?? Date.now;
  const listeners = new Set<() => void>();
  let current: Credential | undefined;
  let waiting: string | undefined = 'starting';
  let suspect = new AbortController();

  function publish(credential: Credential | undefined): void {
    if (credential) waiting = undefined;
    if (credential?.token === current?.token) return;
    current = credential;
    for (const listener of listeners) listener();
  }
  function wait(level: 'info' | 'warn' | 'error', text: string): void {
    waiting = text;
    say(level, text);
  }

  async function withClient<T>(token: string, use: (requests: Requests, client: KubeClient) => Promise<T>): Promise<T> {
    const client = options.client(token);
    try {
      return await use(requestsOf(client, clusterId, signal), client);
    } finally {
      client.close();
    }
  }

  /** Calls until it works; what cannot be helped by waiting is said all the same. */
  async function persist<T>(what: string, call: () => Promise<T>): Promise<T> {
    const retry = backoff(timing.retryMs, timing.longestRetryMs);
    for (;;) {
      signal.throwIfAborted();
      try {
        return await call();
      } catch (error) {
        signal.throwIfAborted();
        wait('warn', `${what}: ${messageOf(error)}`);
        await retry.pause(signal);
      }
    }
  }

  const fromRequest = (request: ClusterRegistrationRequest, keys: SealingKeys) => credentialIn(request, keys, options.parentURL, now());

  /** Saved before it is used, so that a crash does not lose it. When the place is away for long it is used anyway: the parent still has it. */
  async function take(credential: Credential): Promise<Credential> {
    for (let attempt = 1; ; attempt++) {
      try {
        await store.saveCredential(credential);
        return credential;
      } catch (error) {
        say('warn', `${store.place}: ${messageOf(error)}`);
        if (attempt === 3 || signal.aborted) return credential;
        await sleep(timing.retryMs, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  /** What the agent's own credential finds; undefined when it is refused, or the request is gone. */
  async function lookAsOwner(credential: Credential, count?: Refusals): Promise<ClusterRegistrationRequest | undefined> {
    try {
      const request = await withClient(credential.token, (requests) => requests.get());
      count?.note(false);
      return request;
    } catch (error) {
      const refused = isRefused(error) || isNotFound(error);
      count?.note(refused);
      if (refused) return undefined;
      throw error;
    }
  }

  async function lookAsStranger(keys: SealingKeys, refused: boolean): Promise<ClusterRegistrationRequest | undefined> {
    const token = await options.bootstrapToken();
    if (token === undefined) {
      const why = refused
        ? "the parent refuses the cluster's credential, which is tried again and again; to register anew there is"
        : 'not registered, and';
      wait('error', `${why} no bootstrap token: give --bootstrap-token-file or FAIRLEAD_BOOTSTRAP_TOKEN`);
      return undefined;
    }
    try {
      return await withClient(token, (requests) => requests.getOrCreate(registrationRequest(clusterId, options.cluster, keys.publicKey)));
    } catch (error) {
      if (!isRefused(error)) throw error;
      wait(
        'error',
        `the parent refuses the bootstrap token (${messageOf(error)}): it has ended, is wrong, or its group may not create clusterregistrationrequests; make another and put it in place`,
      );
      return undefined;
    }
  }

  /** A credential that the parent accepts, however long it takes. `own` is the one that was good before: it may be so again, and nobody may have another. */
  async function acquire(keys: SealingKeys, own: Credential | undefined): Promise<Credential> {
    // A policy answers in seconds, a person when they have time.
    const quick = backoff(timing.pollMs, timing.pollMs * QUICK_FACTOR);
    const slow = backoff(timing.pollMs * QUICK_FACTOR, timing.longestPollMs);
    const began = performance.now();
    const refused = refusals(timing.takenBackMs);
    for (;;) {
      signal.throwIfAborted();
      try {
        const asOwner = own && (await lookAsOwner(own, refused));
        if (refused.takenBack()) publish(undefined);
        const request = asOwner ?? (await lookAsStranger(keys, own !== undefined));
        if (request?.status?.result === 'Denied') publish(undefined);
        const got = request && accepted(request, keys, asOwner && own);
        // Only the parent's clock tells whether a token is still good.
        if (got && (got === own || (await lookAsOwner(got)))) return got === own ? got : await take(got);
        if (got) wait('warn', 'the parent does not accept the token in the request (yet): it has ended, or was taken back');
      } catch (error) {
        signal.throwIfAborted();
        wait(error instanceof SealedToAnotherKey ? 'error' : 'warn', messageOf(error));
      }
      await (performance.now() - began < QUICK_MS ? quick : slow).pause(signal, timing.pollMs / 2);
    }
  }

  /** The credential that an approved request leads to; `own` when there is no better one. Says why there is none. */
  function accepted(request: ClusterRegistrationRequest, keys: SealingKeys, own: Credential | undefined): Credential | undefined {
    const { name } = request.metadata;
    const { result, errorMessage = '' } = request.status ?? {};
    if (result === 'Approved') {
      const sealedToUs = !request.spec.sealingKey || request.spec.sealingKey === keys.publicKey;
      // With the old credential in hand a lost key is no trouble: the renewal brings the new one.
      const got = own && !sealedToUs ? own : fromRequest(request, keys);
      if (!got) wait('info', `${name}: approved, waiting for the token`);
      return own?.managedCluster && got?.token === own.token ? own : got;
    }
    if (result === 'Denied' || result === 'Failed') wait('error', `${name}: ${result.toLowerCase()}: ${errorMessage || 'no reason given'}`);
    else wait('info', `${name}: waiting for approval${errorMessage ? `: ${errorMessage}` : ''}`);
    return undefined;
  }

  /** A newer credential: the one in the request if it is newer than ours, else one that is asked for. Undefined when ours was refused. */
  async function renew(keys: SealingKeys, own: Credential): Promise<Credential | undefined> {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(timing.renewalMs)]);
    let request = await lookAsOwner(own);
    if (request?.status?.result !== 'Approved') return undefined;
    const newer = (found: ClusterRegistrationRequest) => {
      if (found.spec.sealingKey && found.spec.sealingKey !== keys.publicKey) return undefined;
      const got = fromRequest(found, keys);
      return got && got.token !== own.token && (got.expiresAt ?? 0) > (own.expiresAt ?? 0) ? got : undefined;
    };
    const waitingOne = newer(request);
    if (waitingOne) return await take(waitingOne);
    const { renewal = '', sealingKey } = request.spec;
    const otherKey = Boolean(sealingKey) && sealingKey !== keys.publicKey;
    // One that is not answered yet was asked for before a crash: asking again would only make a third token.
    const pending = renewal !== '' && renewal !== request.status.renewal && !otherKey;
    const wanted = pending ? renewal : randomUUID();
    await withClient(own.token, async (requests) => {
      if (!pending) await requests.changeSpec({ renewal: wanted, ...(otherKey && { sealingKey: keys.publicKey }) });
      const poll = backoff(timing.pollMs, timing.longestPollMs);
      do {
        if (limit.aborted) throw new Error(`${registrationName(clusterId)}: no new token within ${timing.renewalMs / 1_000} s`);
        await poll.pause(limit, timing.pollMs / 4);
        request = await requests.get();
      } while (request.status?.renewal !== wanted);
    });
    const got = fromRequest(request, keys);
    return got ? await take(got) : undefined;
  }

  /** Waits until the credential is doubted (`suspect`) or its renewal is due. */
  async function rest(credential: Credential, fresh: boolean): Promise<'doubted' | 'due' | 'ended'> {
    const due = renewalTime(credential);
    const life = (credential.expiresAt ?? 0) - credential.obtainedAt;
    // A clock that is wrong makes renewals neither endless nor late.
    const inTime = due === undefined ? LONGEST_TIMER_MS : Math.max(due - now(), fresh ? life / 10 : 0);
    const ms = Math.min(inTime, due === undefined ? LONGEST_TIMER_MS : (life * 2) / 3, LONGEST_TIMER_MS);
    const until = AbortSignal.any([signal, suspect.signal]);
    await sleep(Math.max(ms, 0), undefined, { signal: until }).catch(() => undefined);
    if (signal.aborted) return 'ended';
    return suspect.signal.aborted ? 'doubted' : due === undefined ? 'ended' : 'due';
  }

  async function run(): Promise<void> {
    const keys = (await persist(store.place, () => store.keys())) ?? (await persist(store.place, () => store.saveKeys(sealingKeys())));
    const stored = await persist(store.place, () => store.credential());
    const mine = stored && stored.parentURL === options.parentURL && (stored.clusterId === '' || stored.clusterId === clusterId);
    // A parent that is away at the moment is no reason to forget what it gave: tunnels are tried with it meanwhile.
    if (mine && stored.managedCluster !== '') publish(stored);
    let own = await acquire(keys, mine ? stored : undefined);
    const retry = backoff(timing.retryMs, timing.longestRetryMs);
    let fresh = false;
    while (!signal.aborted) {
      suspect = new AbortController();
      publish(own);
      const began = performance.now();
      const why = await rest(own, fresh);
      if (why === 'ended') continue;
      if (performance.now() - began > timing.longestRetryMs) retry.reset();
      fresh = false;
      if (why === 'doubted') {
        await retry.pause(signal);
        own = await acquire(keys, own);
        continue;
      }
      try {
        const next = await renew(keys, own);
        fresh = next !== undefined;
        own = next ?? (await acquire(keys, own));
        retry.reset();
        if (next) say('info', `token renewed${next.expiresAt === undefined ? '' : `; it ends ${new Date(next.expiresAt).toISOString()}`}`);
      } catch (error) {
        if (signal.aborted) break;
        say('warn', `renewal: ${messageOf(error)}`);
        await retry.pause(signal, timing.retryMs);
      }
    }
  }

  const ended = run().catch((error: unknown) => {
    if (!signal.aborted) say('error', `registration ended: ${messageOf(error)}`);
  });
  return {
    credential: () => current,
    onChange(listener, until) {
      if (until.aborted) return;
      listeners.add(listener);
      until.addEventListener('abort', () => listeners.delete(listener), { once: true });
    },
    refused(credential) {
      if (credential.token === current?.token) suspect.abort();
    },
    waitingFor: () => waiting,
    ended,
  };
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
