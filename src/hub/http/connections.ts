import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Server } from 'node:https';
import type { Socket } from 'node:net';

/** The connections of a server, so that a stop cuts no answer and waits for nobody who waits for nothing. */
export type Connections = {
  /** From now on each connection ends with its next answer, which says so (`Connection: close`): a client that hears of it sends nothing into a connection that ends. */
  retire(): void;
  /** The connection was upgraded: from now on it is its taker's. */
  taken(socket: Socket): void;
};

/**
 * Watches over the connections of a server; call it before others listen for its requests. Ending those that are idle is done here, not by Node, whose
 * `close()` and `closeIdleConnections()` also cut answers that are written but not on their way yet.
 */
export function watchConnections(server: Server): Connections {
  const answers = new Map<Socket, Set<ServerResponse>>();
  let retired = false;
  let closing = false;
  server.on('secureConnection', (socket) => {
    answers.set(socket, new Set());
    socket.once('close', () => answers.delete(socket));
  });
  server.on('request', ({ socket }: IncomingMessage, response: ServerResponse) => {
    const open = answers.get(socket);
    if (!open) return;
    if (retired) response.shouldKeepAlive = false;
    open.add(response);
    response.once('close', () => {
      open.delete(response);
      // Its head went out before anybody thought of closing.
      if (closing && open.size === 0) socket.destroySoon();
    });
  });
  // Node's close() calls it, and nobody else does.
  server.closeIdleConnections = () => {
    closing = true;
    for (const [socket, open] of answers) if (open.size === 0) socket.destroySoon();
  };
  return {
    retire() {
      retired = true;
      for (const open of answers.values()) for (const response of open) if (!response.headersSent) response.shouldKeepAlive = false;
    },
    taken(socket) {
      answers.delete(socket);
    },
  };
}
