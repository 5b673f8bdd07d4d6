import { Duplex } from 'node:stream';
import { SESSION_WINDOW } from './protocol.ts';

/** What flow control lets us send, and as much again for frames that it does not count. */
const MOST = 2 * SESSION_WINDOW;

/**
 * The same connection, with writes that are done at once; TLS goes on top of it, HTTP/2 on top of that. Node's HTTP/2 reads nothing while a write is under way: when
 * both ends have more to say than the line takes, both would wait for ever. One end that goes on reading is enough. What waits here is bounded by the other side's
 * window; who takes nothing and still makes us answer is cut off. HTTP/2 must not stand on it directly: Node's adapter for streams (JSStreamSocket) takes one write
 * at a time, and a session that is ended does not wait for it.
 */
export function unblocked(socket: Duplex): Duplex {
  let corked = false;
  const flush = () => {
    corked = false;
    socket.uncork();
  };
  const outer = new Duplex({
    read: () => void socket.resume(),
    write(chunk: Buffer, _encoding, done) {
      // The frames of one turn leave together.
      if (!corked) {
        corked = true;
        socket.cork();
        process.nextTick(flush);
      }
      socket.write(chunk);
      if (socket.writableLength > MOST) socket.destroy(new Error('the other side takes nothing'));
      done();
    },
    final: (done) => void socket.end(() => done()),
    destroy(error, done) {
      socket.destroy();
      done(error);
    },
  });
  socket.on('data', (chunk: Buffer) => {
    if (!outer.push(chunk)) socket.pause();
  });
  socket.once('end', () => outer.push(null));
  socket.on('error', (error: Error) => outer.destroy(error));
  socket.once('close', () => outer.destroy());
  return outer;
}
