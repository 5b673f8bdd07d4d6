import type { PeerAuthority } from './authority.ts';
import { connectPeer, type OnGone, type PeerConnection, PeerIdentityError, type PeerTiming } from './connection.ts';
import type { PeerAddress } from './discovery.ts';
import { isFromAuthority } from './identity.ts';
import type { PeerMetrics } from './metrics.ts';

export type PeerLinkOptions = {
  address: PeerAddress;
  /** Of this replica: who answers with the same one is this replica itself. */
  identity: string;
  namespace: string;
  authority: PeerAuthority;
  timing: PeerTiming;
  metrics: PeerMetrics;
  signal: AbortSignal;
  onChange: (ids: Iterable<string>) => void;
  onGone: OnGone;
  /** What the log should know: connected, lost, refused; each thing once. */
  onNews: (text: string) => void;
};

/** The way to one other replica: one connection, made anew when it is lost, falls silent or the certificates have changed. */
export type PeerLink = {
  /** The connection that new requests may take; undefined when there is none, or its peer is not heard or takes none. */
  usable(): PeerConnection | undefined;
  /** Whether the address was found to be this replica's own. */
  isSelf(): boolean;
  /** Whether the first attempt is over, well or not. */
  tried(): boolean;
  /** Identity of the peer, when it was ever reached. */
  identity(): string | undefined;
  /** False: the address is not a peer's any more. What is connected stays so, and nothing is connected anew. */
  want(wanted: boolean): void;
  /** Resolves when the link is over: no longer wanted and not connected, or the signal was aborted. */
  ended: Promise<void>;
};

/** An address of this replica may become another's. */
const SELF_CHECK_MS = 60_000;

export function openLink(options: PeerLinkOptions): PeerLink {
  const { address, authority, timing, metrics, signal, onNews } = options;
  const where = `${address.address}:${address.port}`;
  const retired = new Set<PeerConnection>();
  let current: PeerConnection | undefined;
  let madeWith = authority.current();
  let wanted = true;
  let self = false;
  let tried = false;
  let identity: string | undefined;
  let news = '';
  let wake: () => void = () => undefined;

  function tell(text: string): void {
    if (text !== news) onNews(text);
    news = text;
  }

  /** Waits until `condition` holds; looks at it whenever something has changed. */
  async function until(condition: () => boolean): Promise<void> {
    while (!signal.aborted && !condition()) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  }

  async function pause(ms: number): Promise<void> {
    let isDue = false;
    const timer = setTimeout(() => {
      isDue = true;
      wake();
    }, ms);
    await until(() => isDue || !wanted);
    clearTimeout(timer);
  }

  const isOver = () => !wanted && !current && retired.size === 0;
  const needsConnection = () => authority.current() !== undefined && (!current?.usable() || authority.current() !== madeWith);

  function take(next: PeerConnection): void {
    const before = current;
    current = next;
    identity = next.identity;
    if (before) {
      retired.add(before);
      before.retire();
    }
    options.onChange(new Set([...next.tunnels.keys(), ...(before?.tunnels.keys() ?? [])]));
    tell(`connected to replica ${next.identity} at ${where}`);
    const onClosed = (why: string) => {
      retired.delete(next);
      if (current === next) {
        current = undefined;
        options.onChange(next.tunnels.keys());
        if (next.isClosing()) tell(`replica ${next.identity} at ${where} has closed the connection`);
        else if (!signal.aborted) {
          metrics.linkFailed('lost');
          tell(`the connection to replica ${next.identity} at ${where} was lost: ${why}`);
        }
      }
      wake();
    };
    next.closed.then(onClosed, (error: unknown) => onClosed(String(error)));
  }

  async function connect(): Promise<void> {
    const credentials = authority.current();
    if (!credentials) return;
    const { namespace, onChange, onGone } = options;
    const { address: host, port } = address;
    const next = await connectPeer({
      ...{ address: host, port, namespace, credentials, timing, signal, onChange, onGone },
      onState(state) {
        if (state === 'silent') metrics.linkFailed('silent');
        wake();
      },
    });
    madeWith = credentials;
    self = next.identity === options.identity;
    if (self) next.destroy('this replica itself');
    else take(next);
  }

  async function run(): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      await until(() => isOver() || (wanted && needsConnection()));
      if (signal.aborted || isOver()) return;
      let backoff = timing.minBackoffMs;
      try {
        await connect();
        failures = 0;
        if (self) backoff = SELF_CHECK_MS;
      } catch (error) {
        if (signal.aborted) return;
        const isStranger = error instanceof PeerIdentityError;
        metrics.linkFailed(isStranger ? 'identity' : 'connect');
        const why = error instanceof Error ? error.message : String(error);
        tell(isStranger ? `${where} is no replica of this hub: ${why}` : `no connection to the replica at ${where}: ${why}`);
        backoff = Math.min(timing.minBackoffMs * 2 ** failures++, timing.maxBackoffMs);
      }
      tried = true;
      // Full jitter above the least pause: replicas that lost each other do not call at the same moments.
      const jittered = timing.minBackoffMs + Math.random() * (backoff - timing.minBackoffMs);
      await pause(self ? backoff : jittered);
    }
  }

  const over = new AbortController();
  authority.onChange(({ ca }) => {
    for (const connection of [...retired, ...(current ? [current] : [])]) {
      if (!isFromAuthority(connection.certificate, ca)) connection.destroy('its authority counts no more');
    }
    wake();
  }, over.signal);
  const onAbort = () => wake();
  signal.addEventListener('abort', onAbort, { once: true });
  const ended = run().finally(() => {
    over.abort();
    signal.removeEventListener('abort', onAbort);
  });

  return {
    usable: () => (current?.usable() ? current : undefined),
    isSelf: () => self,
    tried: () => tried,
    identity: () => identity,
    want(next) {
      wanted = next;
      wake();
    },
    ended,
  };
}
