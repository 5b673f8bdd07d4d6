import { once } from 'node:events';
import { createServer as createHTTPServer } from 'node:http';
import { type AddressInfo, createConnection, createServer, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { WebSocket, WebSocketServer } from 'ws';
import { type DialerSession, dialerSession } from '../../../src/tunnel/remotedialer/dialer.ts';
import type { Limits } from '../../../src/tunnel/remotedialer/limits.ts';
import { websocketAcceptor } from '../../../src/tunnel/remotedialer/websocket.ts';
import type { cleanUp } from '../../support/clean-up.ts';

type Clean = ReturnType<typeof cleanUp>;

/** A hub: each websocket becomes a session. */
export async function hub(clean: Clean, limits: Partial<Limits> = {}) {
  const sessions: DialerSession[] = [];
  const sockets = new Set<Duplex>();
  const waiting: ((session: DialerSession) => void)[] = [];
  const accept = websocketAcceptor();
  const server = createHTTPServer();
  server.on('upgrade', (request, socket, head) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    accept(request, socket, head, (transport) => {
      const session = dialerSession(transport, { limits });
      sessions.push(session);
      waiting.shift()?.(session);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  clean.after(() => {
    for (const session of sessions) session.end('the test is over');
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const next = () => new Promise<DialerSession>((resolve) => void waiting.push(resolve));
  return {
    port,
    sessions,
    sockets,
    /** A websocket of an agent, and the hub's session for it. */
    async agent(): Promise<{ ws: WebSocket; session: DialerSession }> {
      const session = next();
      const ws = new WebSocket(`ws://127.0.0.1:${port}/`, { perMessageDeflate: false });
      clean.after(() => ws.terminate());
      await once(ws, 'open');
      return { ws, session: await session };
    },
    /** A connection on which the handshake has been made, for frames written by hand. */
    async raw(): Promise<{ socket: Socket; session: DialerSession; head: string }> {
      const session = next();
      const { socket, head } = await rawHandshake(clean, port);
      return { socket, session: await session, head };
    },
  };
}

export async function rawHandshake(clean: Clean, port: number, headers: readonly string[] = []): Promise<{ socket: Socket; head: string }> {
  const socket = createConnection(port, '127.0.0.1');
  clean.after(() => socket.destroy());
  socket.on('error', () => {});
  const lines = [
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
    ...headers,
  ];
  socket.write(`GET /sockets/1 HTTP/1.1\r\nHost: hub\r\n${lines.join('\r\n')}\r\n\r\n`);
  const [head] = (await once(socket, 'data')) as [Buffer];
  return { socket, head: head.toString('latin1') };
}

/** A clusternet hub's end of websockets, without anything behind it. */
export async function websocketHub(clean: Clean) {
  const sockets: WebSocket[] = [];
  const requests: { url: string; headers: NodeJS.Dict<string | string[]> }[] = [];
  const waiting: ((ws: WebSocket) => void)[] = [];
  const server = createHTTPServer((_request, response) => response.writeHead(401).end('unauthorized\nmore'));
  const acceptor = new WebSocketServer({ noServer: true, clientTracking: false, perMessageDeflate: true });
  let refuse = false;
  const open = new Set<Duplex>();
  server.on('upgrade', (request, socket, head) => {
    requests.push({ url: request.url ?? '', headers: request.headers });
    open.add(socket);
    if (refuse) {
      socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 18\r\n\r\nnot your socket\nno');
      return;
    }
    acceptor.handleUpgrade(request, socket, head, (ws) => {
      sockets.push(ws);
      waiting.shift()?.(ws);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  clean.after(() => {
    for (const socket of open) socket.destroy();
    server.close();
  });
  return {
    port: (server.address() as AddressInfo).port,
    requests,
    refuse: () => {
      refuse = true;
    },
    next: () => new Promise<WebSocket>((resolve) => void waiting.push(resolve)),
  };
}

/** A TCP server for targets, with the sockets that are open. */
export async function target(clean: Clean, serve: (socket: Socket) => void) {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => sockets.delete(socket));
    serve(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  clean.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, sockets };
}

export const echo = (socket: Socket): void => void socket.pipe(socket);

/** A port where nothing listens. */
export async function closedPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** Reads the stream to its end. */
export async function text(stream: Duplex): Promise<string> {
  let read = '';
  for await (const chunk of stream) read += String(chunk);
  return read;
}

/** Reads `bytes` bytes, and leaves the stream as it is. */
export function take(stream: Duplex, bytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  return new Promise((resolve, reject) => {
    const onData = (chunk: Buffer) => {
      chunks.push(chunk);
      length += chunk.length;
      if (length < bytes) return;
      stream.pause().off('data', onData).off('error', reject);
      resolve(Buffer.concat(chunks));
    };
    stream.on('data', onData).once('error', reject).resume();
  });
}

/** The error that ends the stream. */
export const failure = (stream: Duplex): Promise<Error> =>
  stream.errored
    ? Promise.resolve(stream.errored)
    : once(stream, 'error').then(
        ([error]) => error as Error,
        (error: Error) => error,
      );
