/** Whether the peer is there. */
export type Liveness = {
  /** Something came from the peer. */
  alive(): void;
  /** A pong came. */
  pong(): void;
  /** Pings now, and calls back at the pong. Never, when none comes. */
  probe(answered: () => void): void;
  roundTripMs(): number | undefined;
  lastHeard(): Date;
  stop(): void;
};

type Needs = {
  pingMs: number;
  silenceMs: number;
  ping(): void /** True while nothing is read, so that silence means nothing. */;
  deaf(): boolean;
  silent(): void;
  tick(): void;
};

/** Pings that wait for their pong. A peer that answers none lets go of the oldest. */
const OUTSTANDING = 1_000;
const TICKS_PER_PING = 5;

/**
 * Pings, and counts silence in its own ticks rather than by the clock: when this process was stopped for a minute, the peer has not been silent.
 * Anything that comes is a sign of life, so a peer that answers no pings but sends its own is taken as alive. Pongs are matched in order, because the
 * pongs of clusternet's library are empty.
 */
export function liveness({ pingMs, silenceMs, ping, deaf, silent, tick }: Needs): Liveness {
  const waiting: { at: number; answered?: () => void }[] = [];
  let heard = new Date();
  let roundTrip: number | undefined;
  let silence = 0;
  let ticks = 0;
  const send = (answered?: () => void) => {
    waiting.push({ at: performance.now(), ...(answered && { answered }) });
    if (waiting.length > OUTSTANDING) waiting.shift();
    ping();
  };
  const tickMs = pingMs / TICKS_PER_PING;
  const timer = setInterval(() => {
    tick();
    if (ticks++ % TICKS_PER_PING === 0) send();
    if (deaf()) return;
    silence++;
    if (silence * tickMs > silenceMs) silent();
  }, tickMs);
  return {
    alive() {
      silence = 0;
      heard = new Date();
    },
    pong() {
      const oldest = waiting.shift();
      if (!oldest) return;
      roundTrip = performance.now() - oldest.at;
      oldest.answered?.();
    },
    probe: send,
    roundTripMs: () => roundTrip,
    lastHeard: () => heard,
    stop() {
      clearInterval(timer);
      waiting.length = 0;
    },
  };
}
