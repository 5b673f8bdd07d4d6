import { TargetError } from '../target-error.ts';
import type { Limits } from './limits.ts';

/** What a connection does when told to. */
export type Flow = { pause(): void; resume(): void; cut(error: Error): void };
/** Counts what waits for the reader of one connection. */
export type Meter = { added(bytes: number): void; removed(bytes: number): void; close(): void };

export type Intake = { meter(flow: Flow): Meter; held(): boolean; stats(): { buffered: number; ignoresPause: boolean }; close(): void };

/** `round` counts the pauses, so that a late answer is not taken for one to a later pause. */
type State = {
  flow: Flow;
  limit: number;
  bytes: number;
  round: number;
  paused: boolean;
  asked: boolean;
  answered: boolean;
  overrun: number;
  timer?: NodeJS.Timeout;
};

type Needs = {
  limits: Limits;
  hold(): void;
  release(): void;
  /** Calls back when the peer has read all that was sent before; never, when it does not answer. */
  probe(answered: () => void): void;
};

/** What may still come after `hold`: one read of the socket and one message. */
const AFTER_HOLD = 128 * 1024;
/** How far below its limit a connection must fall before reading goes on: one piece of the peer. */
const HYSTERESIS = 32 * 1024;
/** What may come after the peer has read `Pause`: pieces that were being written meanwhile. */
const OVERRUN = 64 * 1024;

/**
 * Bounds what waits for readers.
 *
 * A connection whose reader is slower than the peer is paused (`pauseBytes`). What is under way at that moment arrives nevertheless, several MiB over a
 * long line, and a peer that does as it is told must not be punished for the line. Peers of the v0.1 era do not know `Pause`; they must be able to send
 * more than fits to a reader that is merely slow. A peer that could stop and does not must not fill the memory. Hence:
 *
 * 1. When much has come after `Pause`, a ping goes out behind it. A peer handles its messages in order, so once its pong is here it has read the
 *    `Pause`. If it goes on sending, it ignores pauses, and that is remembered for the session.
 * 2. A connection may hold `underwayBytes`; if it was opened when the peer was known to ignore pauses, `connectionBytes`. All together `sessionBytes`.
 * 3. At that limit the session stops reading, and TCP slows the peer down, all its connections alike. A slow reader makes room again within
 *    `holdMs`. If it does not, it stands still, and its connection is cut (of all together, the largest), so that the others wait no longer than that.
 *
 * So a reader that stands still behind a peer that pauses may stand still for ever, and disturbs nobody.
 */
export function intake({ limits, hold, release, probe }: Needs): Intake {
  const states = new Set<State>();
  const full = new Set<State>();
  let total = 0;
  let totalTimer: NodeJS.Timeout | undefined;
  let ignoresPause = false;
  let holding = false;

  const update = () => {
    const wanted = full.size > 0 || totalTimer !== undefined;
    if (wanted === holding) return;
    holding = wanted;
    if (holding) hold();
    else release();
  };
  const cut = (state: State, what: string) =>
    state.flow.cut(new TargetError(502, `the reader of this connection stood still with ${state.bytes} bytes waiting, ${what}`));

  const unmark = (state: State) => {
    clearTimeout(state.timer);
    full.delete(state);
  };
  const overTotal = () => {
    totalTimer = undefined;
    const largest = [...states].reduce<State | undefined>((best, state) => (best && best.bytes >= state.bytes ? best : state), undefined);
    if (largest) cut(largest, 'the largest part of what the tunnel may hold');
    check();
  };
  const check = (state?: State) => {
    const room = Math.min(AFTER_HOLD, limits.connectionBytes / 8);
    if (state) {
      const top = state.limit - room;
      if (!full.has(state) && state.bytes >= top) {
        full.add(state);
        state.timer = setTimeout(() => cut(state, 'and the peer does not pause'), limits.holdMs);
      } else if (full.has(state) && state.bytes < top - Math.min(HYSTERESIS, room)) unmark(state);
    }
    if (total >= limits.sessionBytes - room) totalTimer ??= setTimeout(overTotal, limits.holdMs);
    else {
      clearTimeout(totalTimer);
      totalTimer = undefined;
    }
    update();
  };

  const added = (state: State, bytes: number) => {
    if (!states.has(state)) return;
    state.bytes += bytes;
    total += bytes;
    if (!state.paused && state.bytes > limits.pauseBytes) {
      state.paused = true;
      state.round++;
      state.flow.pause();
    }
    if (state.paused && !state.asked && state.bytes > limits.pauseBytes * 2 && !ignoresPause) {
      const { round } = state;
      state.asked = true;
      probe(() => {
        state.answered = state.paused && state.round === round;
      });
    }
    if (state.answered) {
      state.overrun += bytes;
      if (state.overrun > OVERRUN) ignoresPause = true;
    }
    check(state);
  };
  const removed = (state: State, bytes: number) => {
    if (!states.has(state)) return;
    state.bytes -= bytes;
    total -= bytes;
    if (state.paused && state.bytes < limits.resumeBytes) {
      state.paused = false;
      state.asked = false;
      state.answered = false;
      state.overrun = 0;
      state.flow.resume();
    }
    check(state);
  };

  return {
    meter(flow) {
      const limit = ignoresPause ? limits.connectionBytes : limits.underwayBytes;
      const state: State = { flow, limit, bytes: 0, round: 0, paused: false, asked: false, answered: false, overrun: 0 };
      states.add(state);
      return {
        added: (bytes) => added(state, bytes),
        removed: (bytes) => removed(state, bytes),
        close() {
          if (!states.delete(state)) return;
          unmark(state);
          total -= state.bytes;
          check();
        },
      };
    },
    held: () => holding,
    stats: () => ({ buffered: total, ignoresPause }),
    close() {
      for (const state of states) unmark(state);
      clearTimeout(totalTimer);
      totalTimer = undefined;
      states.clear();
      total = 0;
    },
  };
}
