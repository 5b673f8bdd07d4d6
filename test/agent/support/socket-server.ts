import type { IncomingHttpHeaders } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { ATTACHED_HEADERS, UPGRADE_TOKEN } from '../../../src/tunnel/protocol.ts';
import { connectTunnel, type HubTunnel } from '../../../src/tunnel/session.ts';
import { makeCa, makeServer } from '../../hub/auth/pki.ts';

/** One request for a tunnel, as it arrived. */
export type Asked = { path: string; method: string; headers: IncomingHttpHeaders };
type Refusal = { code: number; body?: string; headers?: Record<string, string> };

export type SocketServer = {
  url: string;
  port: number;
  ca: string;
  asked: Asked[];
  /** Open tunnels by replica. */
  tunnels: { replica: string; token: string; tunnel: HubTunnel }[];
  /** Replicas in turn; a request goes to the next one. */
  replicas: string[];
  /** Refuses, when it answers. */
  refuse: (asked: Asked) => Refusal | undefined;
  close(): Promise<void>;
};

/** A TLS server that gives tunnels as replicas of the hub behind one address do, with a real HTTP/2 session on each. */
export async function socketServer(): Promise<SocketServer> {
  const authority = makeCa('parent-ca');
  const pair = makeServer(authority, ['127.0.0.1', 'parent.example']);
  const server = createServer({ cert: pair.cert, key: pair.key });
  const sockets = new Set<Duplex>();
  server.on('secureConnection', (socket: Duplex) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => sockets.delete(socket));
  });
  let turn = 0;
  server.on('upgrade', (request, socket: Duplex, head: Buffer) => {
    const asked: Asked = { path: request.url ?? '', method: request.method ?? '', headers: request.headers };
    state.asked.push(asked);
    const replica = state.replicas[turn++ % state.replicas.length] ?? '';
    const where = `${ATTACHED_HEADERS.replica}: ${replica}\r\n${ATTACHED_HEADERS.replicas}: ${state.replicas.length}\r\n`;
    const have = String(asked.headers['fairlead-have'] ?? '').split(',');
    const refusal = state.refuse(asked) ?? (have.includes(replica) ? { code: 409, body: '' } : undefined);
    if (refusal) {
      const { code, body = '', headers = {} } = refusal;
      const more = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
      const where409 = code === 409 ? where : '';
      socket.end(
        `HTTP/1.1 ${code} X\r\nContent-Length: ${Buffer.byteLength(body)}\r\n${where409}${more.join('')}Connection: close\r\n\r\n${body}`,
      );
      return;
    }
    const token = /^Bearer (.*)$/.exec(asked.headers.authorization ?? '')?.[1] ?? '';
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${UPGRADE_TOKEN}\r\n${where}\r\n`, () => {
      setImmediate(() => {
        const entry = { replica, token, tunnel: connectTunnel(socket, head) };
        state.tunnels.push(entry);
        const gone = () => {
          state.tunnels = state.tunnels.filter((other) => other !== entry);
        };
        entry.tunnel.closed.then(gone, gone);
      });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const state: SocketServer = {
    url: `https://127.0.0.1:${port}`,
    port,
    ca: authority.cert,
    asked: [],
    tunnels: [],
    replicas: ['a', 'b'],
    refuse: () => undefined,
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const { tunnel } of state.tunnels) tunnel.destroy('the test is over');
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
  return state;
}
