import type { Duplex } from 'node:stream';

/** A target that takes nothing any more keeps its last bytes no longer than this. */
const FLUSH_MS = 10_000;

/**
 * Joins a connection of the tunnel and a socket, both ways, until one of them is over. What the tunnel delivered before its end still goes out to the
 * socket; an error of the socket ends the connection as `broken` makes of it.
 */
export function splice(tunnel: Duplex, socket: Duplex, broken: (error: Error) => Error): void {
  socket.on('error', (error) => tunnel.destroy(broken(error)));
  socket.once('close', () => {
    // After an ordinary end there is nothing left to destroy.
    if (!socket.readableEnded) tunnel.destroy();
  });
  tunnel.once('close', () => {
    tunnel.unpipe(socket);
    socket.unpipe(tunnel);
    socket.resume();
    if (tunnel.errored || socket.destroyed) return void socket.destroy();
    const timer = setTimeout(() => socket.destroy(), FLUSH_MS);
    socket.once('close', () => clearTimeout(timer));
    socket.end(() => socket.destroy());
  });
  tunnel.pipe(socket);
  socket.pipe(tunnel);
}
