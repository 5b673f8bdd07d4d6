import type { NodeOperation } from '../../src/hub/nodes/schema.ts';
import { shortDuration } from './duration.ts';
import type { Stdio } from './stdio.ts';

/** Shows how far each node is: redrawn in place on a terminal, one line at each change elsewhere. Writes to stderr only. */
export type Progress = {
  /** The node's operation has a new state. */
  changed(node: string, operation: NodeOperation): void;
  /** The same for what is no operation of a node: a phase in a few words, and a detail. */
  state(name: string, phase: string, detail: string): void;
  /** Something about the node that is no state, for example a lost connection. */
  note(node: string, text: string): void;
  /** The node is done with: its line goes away. */
  ended(node: string): void;
  /** Writes something around the live lines. */
  around(write: () => void): void;
  /** Removes the live lines and stops the clock. */
  close(): void;
};

type Line = { phase: string; detail: string; began: number };

/** `quiet` shows nothing at all. */
export function progress(stdio: Stdio, quiet = false): Progress {
  if (quiet) return { changed() {}, state() {}, note() {}, ended() {}, around: (write) => write(), close() {} };
  return stdio.live ? liveProgress(stdio) : plainProgress(stdio);
}

/** `3 of 7 pods evicted; message`; the numbers once, where the message of the hub has them too. */
function detailOf(operation: NodeOperation): string {
  const { phase, podsToEvict, podsEvicted, message = '' } = operation.status ?? {};
  const pods = phase === 'Draining' && podsToEvict !== undefined ? `${podsEvicted ?? 0} of ${podsToEvict} pods evicted` : '';
  return [message === pods ? '' : pods, message].filter((part) => part !== '').join('; ');
}

function plainProgress(stdio: Stdio): Progress {
  const lines = new Map<string, Line & { shown: string }>();
  const say = (node: string, text: string) => {
    const line = lines.get(node) ?? { phase: '', detail: '', began: performance.now(), shown: '' };
    lines.set(node, line);
    if (line.shown === text) return;
    line.shown = text;
    stdio.err(`${node}: ${text} (${shortDuration(performance.now() - line.began)})\n`);
  };
  const state = (name: string, phase: string, detail: string) => say(name, `${phase}${detail ? `: ${detail}` : ''}`);
  return {
    changed: (node, operation) => state(node, operation.status?.phase ?? 'Pending', detailOf(operation)),
    state,
    note: say,
    ended: (node) => void lines.delete(node),
    around: (write) => write(),
    close() {},
  };
}

const UP_AND_CLEAR = '\u001b[1A\u001b[2K';

function liveProgress(stdio: Stdio): Progress {
  const lines = new Map<string, Line>();
  let drawn = 0;
  let timer: NodeJS.Timeout | undefined;

  const erase = () => {
    if (drawn > 0) stdio.err(UP_AND_CLEAR.repeat(drawn));
    drawn = 0;
  };
  const draw = () => {
    erase();
    const { columns, rows } = stdio.size();
    const room = Math.max(1, rows - 2);
    const shown = [...lines].sort(([a], [b]) => a.localeCompare(b, 'en', { numeric: true })).slice(0, lines.size > room ? room - 1 : room);
    const width = Math.max(0, ...shown.map(([node]) => node.length));
    const texts = shown.map(([node, { phase, detail, began }]) => {
      const elapsed = shortDuration(performance.now() - began);
      return fitted(`${node.padEnd(width)}  ${phase.padEnd(15)}  ${elapsed.padStart(6)}  ${detail}`, columns - 1);
    });
    if (shown.length < lines.size) texts.push(fitted(`and ${lines.size - shown.length} more nodes`, columns - 1));
    if (texts.length > 0) stdio.err(`${texts.join('\n')}\n`);
    drawn = texts.length;
    if (lines.size > 0) timer ??= setInterval(draw, 1000);
    else stop();
  };
  const stop = () => {
    clearInterval(timer);
    timer = undefined;
  };
  const update = (node: string, change: Partial<Line>) => {
    lines.set(node, { phase: 'Pending', detail: '', began: performance.now(), ...lines.get(node), ...change });
    draw();
  };
  return {
    changed: (node, operation) => update(node, { phase: operation.status?.phase ?? 'Pending', detail: detailOf(operation) }),
    state: (name, phase, detail) => update(name, { phase, detail }),
    note: (node, text) => update(node, { detail: text }),
    ended(node) {
      lines.delete(node);
      draw();
    },
    around(write) {
      erase();
      write();
      draw();
    },
    close() {
      erase();
      stop();
      lines.clear();
    },
  };
}

/** A line longer than the terminal would wrap, and then be erased only in part. */
const fitted = (text: string, columns: number) => {
  const line = text.replace(/[\r\n\t]+/g, ' ').trimEnd();
  return line.length > columns ? `${line.slice(0, Math.max(0, columns - 1))}…` : line;
};
