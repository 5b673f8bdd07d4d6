import type { IncomingHttpHeaders } from 'node:http';
import { type RequestOptions, request } from 'node:https';
import type { Socket } from 'node:net';
import { SOCKETS_API } from '../../../src/tunnel/protocol.ts';
import type { SocketHub } from '../../support/socket-hub.ts';
import { waitUntil } from '../../support/wait-until.ts';

/** How a request ended: `whole` only when the client's parser took the answer for complete. */
export type Ended = { code: number; headers: IncomingHttpHeaders; body: string; whole: boolean; error: Error | undefined; at: number };
export type Asked = { ended: Promise<Ended>; head: Promise<IncomingHttpHeaders | undefined>; got(): number; cancel(): void };

/** The path of a cluster's own API server through the hub. */
export const direct = (id: string, path: string) => `${SOCKETS_API}/sockets/${id}/proxy/direct${path}`;

/** A request to the hub, which never rejects: what came of it is in `ended`. An upgrade that is accepted is `code` 101 and ends with its connection. */
export function asking(hub: SocketHub, options: RequestOptions & { body?: Buffer }): Asked {
  const { body, ...rest } = options;
  const chunks: Buffer[] = [];
  let code = 0;
  let headers: IncomingHttpHeaders = {};
  let bytes = 0;
  let upgraded: Socket | undefined;
  let onEnd: (ended: Ended) => void = () => undefined;
  let onHead: (headers: IncomingHttpHeaders | undefined) => void = () => undefined;
  const ended = new Promise<Ended>((resolve) => {
    onEnd = resolve;
  });
  const head = new Promise<IncomingHttpHeaders | undefined>((resolve) => {
    onHead = resolve;
  });
  const end = (whole: boolean, error?: Error) => {
    onHead(undefined);
    onEnd({ code, headers, body: Buffer.concat(chunks).toString('latin1'), whole, error, at: performance.now() });
  };
  const take = (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes < 1 << 20) chunks.push(chunk);
  };
  const sent = request({ host: '127.0.0.1', port: hub.port, ca: hub.ca, agent: false, ...rest });
  sent.on('response', (response) => {
    code = response.statusCode ?? 0;
    headers = response.headers;
    onHead(headers);
    response.on('data', take);
    response.on('error', (error) => end(false, error));
    response.on('close', () => end(response.complete));
  });
  sent.on('upgrade', (response, socket: Socket, first: Buffer) => {
    code = response.statusCode ?? 0;
    headers = response.headers;
    onHead(headers);
    upgraded = socket;
    take(first);
    socket.on('data', take);
    socket.on('error', (error) => end(false, error));
    socket.on('close', () => end(socket.readableEnded));
  });
  sent.on('error', (error) => end(false, error));
  sent.on('close', () => {
    if (code === 0) end(false);
  });
  sent.end(body);
  const cancel = () => {
    sent.destroy();
    upgraded?.destroy();
  };
  return { ended, head, got: () => bytes, cancel };
}

export const ask = (hub: SocketHub, options: RequestOptions & { body?: Buffer }): Promise<Ended> => asking(hub, options).ended;

/** The Status in a body. */
export const statusOf = ({ body }: Ended) => JSON.parse(body) as { kind: string; code: number; message: string; reason: string };

/** Upgrade headers as kubectl's exec sends them over SPDY. */
export const SPDY = { connection: 'Upgrade', upgrade: 'SPDY/3.1' };
/** A child's side of an upgrade that says `hello`, then echoes. */
export function echoUpgrade(_request: unknown, socket: Socket): void {
  socket.on('error', () => undefined);
  socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\nhello');
  socket.pipe(socket);
}

/** Runs `work` for 0 to `count` - 1, at most `atOnce` at a time. */
export async function many(count: number, atOnce: number, work: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, count) }, worker));
}

/** Waits until a cluster has this many tunnels in the hub. */
export const tunnelsOf = (hub: SocketHub, id: string, count: number) =>
  waitUntil(() => hub.directory.of(id).length === count, `${count} tunnels of ${id.slice(0, 8)}`);
