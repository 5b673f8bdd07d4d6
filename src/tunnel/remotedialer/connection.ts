import { Duplex } from 'node:stream';
import { EOF, errorOf, readText, textOf } from './error-text.ts';
import { FRAME } from './frame.ts';
import { inbox } from './inbox.ts';
import type { Intake } from './intake.ts';
import { type Outbox, PIECE_BYTES } from './outbox.ts';
import type { Varint } from './varint.ts';

/** One connection of a session: the stream for its user, and what the session tells it. */
export type Connection = {
  stream: Duplex;
  data(payload: Buffer): void;
  pause(): void;
  resume(): void;
  /** The peer has ended the connection, and forgotten it. */
  error(payload: Buffer): void;
};

export type Wire = {
  send(id: Varint, type: number, payload: Buffer): void;
  outbox: Outbox;
  intake: Intake;
  /** The connection is over: frames for it go nowhere. */
  forget(id: Varint): void;
  /** What `end()` of the stream means: a number of milliseconds to wait for the peer's end, or 0 to end the connection. */
  lingerMs: number;
};

const NOTHING = Buffer.alloc(0);

/**
 * The protocol has no half close: the end of one direction is the end of both, and what the other side still sends goes nowhere.
 *
 * At the hub (`lingerMs` > 0) `end()` therefore only says that nothing more will be written, and the connection ends when the target ends it, or has said
 * nothing for `lingerMs`. So an answer that comes after the end of a request is not lost, but a target that waits for the end of a connection sees it late.
 * Standard input of `kubectl exec` is not concerned: its end travels inside the upgraded connection. Nor is TLS to the target, whose own end mark goes through.
 * At the agent `end()` means that the target has ended, and the hub is told at once.
 */
export function connection(wire: Wire, id: Varint, address: string): Connection {
  const box = inbox();
  let wanted = false;
  /** The peer knows the connection. */
  let open = true;
  /** The peer has forgotten it, and all that came from it was read. */
  let over = false;
  let ended = false;
  let paused = false;
  let pending: { bytes: Buffer; sent: number; done: () => void } | undefined;
  let linger: NodeJS.Timeout | undefined;

  const close = (text: Buffer) => {
    if (!open) return;
    open = false;
    wire.forget(id);
    wire.send(id, FRAME.error, text);
  };
  const meter = wire.intake.meter({
    pause: () => open && wire.send(id, FRAME.pause, NOTHING),
    resume: () => open && wire.send(id, FRAME.resume, NOTHING),
    cut: (error) => stream.destroy(error),
  });
  const sender = {
    sendPiece() {
      if (!pending || paused || !open) return false;
      const piece = pending.bytes.subarray(pending.sent, pending.sent + PIECE_BYTES);
      pending.sent += piece.length;
      wire.send(id, FRAME.data, piece);
      if (pending.sent < pending.bytes.length) return true;
      const { done } = pending;
      pending = undefined;
      // May write again at once, which makes this ready once more.
      done();
      return false;
    },
  };
  const write = (bytes: Buffer, done: () => void) => {
    // When the peer has ended the connection, the bytes wait until all was read: an error now would lose what is yet to be read.
    pending = { bytes, sent: 0, done };
    if (over) letGo();
    else if (bytes.length === 0 && open) done();
    else if (!paused) wire.outbox.ready(sender);
  };
  /** What is written now reaches nobody. */
  const letGo = () => {
    const done = pending?.done;
    pending = undefined;
    done?.();
  };
  const finishReading = () => {
    ended = true;
    if (box.size() === 0) stream.push(null);
  };

  const stream = new Duplex({
    // The inbox is what buffers. Here lies at most one chunk.
    readableHighWaterMark: 1,
    writableHighWaterMark: 2 * PIECE_BYTES,
    read() {
      wanted = true;
      while (wanted) {
        const before = box.size();
        const chunk = box.take();
        if (!chunk) break;
        meter.removed(before - box.size());
        wanted = stream.push(chunk);
      }
      if (ended && box.size() === 0) stream.push(null);
    },
    write: (chunk: Buffer, _encoding, done) => write(chunk, done),
    writev: (chunks, done) => write(Buffer.concat(chunks.map(({ chunk }) => chunk as Buffer)), done),
    final(done) {
      if (wire.lingerMs === 0) {
        close(Buffer.from(EOF));
        finishReading();
      } else if (open) linger = setTimeout(() => stream.destroy(), wire.lingerMs);
      done();
    },
    destroy(error, done) {
      clearTimeout(linger);
      wire.outbox.remove(sender);
      pending = undefined;
      close(textOf(error));
      meter.close();
      done(error);
    },
  });
  // An error is for the user of the stream; one that came before there was a user must not end the process.
  stream.on('error', () => {});
  stream.once('end', () => {
    if (open) return;
    over = true;
    // At the hub TLS may lie over the stream, which holds bytes that its reader has not taken yet, and loses them when the stream is destroyed under it. Its user ends the stream.
    if (wire.lingerMs > 0) letGo();
    else stream.destroy();
  });

  return {
    stream,
    data(payload) {
      linger?.refresh();
      if (wanted && box.size() === 0) {
        wanted = stream.push(payload);
        return;
      }
      const before = box.size();
      box.put(payload);
      meter.added(box.size() - before);
    },
    pause() {
      paused = true;
    },
    resume() {
      paused = false;
      if (pending) wire.outbox.ready(sender);
    },
    error(payload) {
      open = false;
      wire.forget(id);
      clearTimeout(linger);
      const text = readText(payload);
      if (text === EOF) finishReading();
      else stream.destroy(errorOf(text, address));
    },
  };
}
