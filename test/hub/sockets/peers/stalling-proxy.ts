import { connect, createServer, type Socket } from 'node:net';

export type StallingProxy = {
  port: number;
  /** From now on bytes vanish, both ways, without a FIN or a reset; new connections are taken and hear nothing. */
  stall(): void;
  /** New connections work again; the old ones stay dead. */
  heal(): void;
  /** Bytes wait, both ways, and none is lost; `release` lets them through. */
  hold(): void;
  release(): void;
  /** Destroys all connections; new ones are taken. */
  cut(): void;
  /** Sockets that the proxy itself has open. */
  sockets(): number;
  close(): Promise<void>;
};

/** A TCP proxy on loopback that can lose everything, as a network does that is cut in the middle. */
export async function stallingProxy(upstreamPort: number): Promise<StallingProxy> {
  let stalled = false;
  let held = false;
  const sockets = new Set<Socket>();
  const dead = new WeakSet<Socket>();
  const track = (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.once('close', () => sockets.delete(socket));
  };
  const server = createServer({ allowHalfOpen: true }, (client) => {
    track(client);
    if (stalled) {
      dead.add(client);
      client.resume();
      return;
    }
    const upstream = connect({ port: upstreamPort, host: '127.0.0.1', allowHalfOpen: true });
    track(upstream);
    if (held) upstream.once('connect', () => [client, upstream].map((socket) => held && socket.pause()));
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      from.on('data', (chunk) => {
        if (!dead.has(from)) to.write(chunk);
      });
      // A dead connection does not even answer a FIN.
      from.once('end', () => {
        if (!dead.has(from)) to.end();
      });
      from.once('close', () => {
        if (!dead.has(from)) to.destroy();
      });
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    port: address.port,
    stall() {
      stalled = true;
      for (const socket of sockets) dead.add(socket);
    },
    heal() {
      stalled = false;
    },
    hold() {
      held = true;
      for (const socket of sockets) socket.pause();
    },
    release() {
      held = false;
      for (const socket of sockets) socket.resume();
    },
    sockets: () => sockets.size,
    cut() {
      for (const socket of sockets) socket.destroy();
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}
