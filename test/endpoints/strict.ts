import { createHash, createHmac } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer as createHTTP } from 'node:http';
import { createServer as createHTTPS } from 'node:https';
import type { Socket } from 'node:net';

/** What an endpoint does with the next request of an action instead of its usual work. */
export type Fault =
  | { kind: 'refuse'; status: number; code: string; message?: string; headers?: Record<string, string> }
  /** Answers after so many milliseconds; the effect happens before. */
  | { kind: 'slow'; milliseconds: number }
  | { kind: 'cut-before-effect' }
  | { kind: 'cut-after-effect' }
  | { kind: 'half-answer' }
  | { kind: 'raw'; status: number; body: string; headers?: Record<string, string> };

/** One received request. `effect` is true when the state of an instance changed. */
export type Call = { action: string; region: string; parameters: Record<string, unknown>; effect: boolean; error: string };

/** The answer of an API: HTTP status, headers and JSON. */
export type Reply = { status: number; headers?: Record<string, string>; json: unknown };

export type Endpoint = { url: string; port: number; calls: Call[]; inject(action: string, fault: Fault): void; close(): Promise<void> };

export const sha256 = (data: string | Buffer): string => createHash('sha256').update(data).digest('hex');
export const hmac = (key: string | Buffer, data: string): Buffer => createHmac('sha256', key).update(data).digest();

/** Serves an API on a free loopback port: reads the body, applies injected faults, records, answers. */
export async function serve(options: {
  host: string;
  tls?: { key: string; cert: string };
  /** Checks and does one request; `refusal` makes the API's own error form. */
  handle(request: IncomingMessage, body: string, call: Call, fault: Extract<Fault, { kind: 'refuse' }> | undefined): Reply;
}): Promise<Endpoint> {
  const calls: Call[] = [];
  const faults = new Map<string, Fault[]>();
  const sockets = new Set<Socket>();
  const timers = new Set<NodeJS.Timeout>();

  const answer = (response: ServerResponse, reply: Reply, half: boolean) => {
    const text = JSON.stringify(reply.json);
    response.writeHead(reply.status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text), ...reply.headers });
    if (!half) response.end(text);
    else response.write(text.slice(0, 5), () => response.socket?.destroy());
  };

  const listener = (request: IncomingMessage, response: ServerResponse) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const named = request.headers['x-tc-action'] ?? request.headers['x-acs-action'];
      const call: Call = { action: String(named ?? ''), region: '', parameters: {}, effect: false, error: '' };
      calls.push(call);
      const fault = faults.get(call.action)?.shift();
      if (fault?.kind === 'cut-before-effect') {
        request.socket.destroy();
        return;
      }
      if (fault?.kind === 'raw') {
        response.writeHead(fault.status, fault.headers).end(fault.body);
        return;
      }
      const reply = options.handle(request, Buffer.concat(chunks).toString('utf8'), call, fault?.kind === 'refuse' ? fault : undefined);
      if (fault?.kind === 'cut-after-effect') request.socket.destroy();
      else if (fault?.kind === 'slow') {
        const timer = setTimeout(() => {
          timers.delete(timer);
          answer(response, reply, false);
        }, fault.milliseconds);
        timers.add(timer);
      } else answer(response, reply, fault?.kind === 'half-answer');
    });
  };

  const server = options.tls ? createHTTPS(options.tls, listener) : createHTTP(listener);
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    port: address.port,
    url: `${options.tls ? 'https' : 'http'}://${options.host}:${address.port}`,
    calls,
    inject: (action, fault) => {
      faults.set(action, [...(faults.get(action) ?? []), fault]);
    },
    close: () =>
      new Promise((resolve) => {
        for (const timer of timers) clearTimeout(timer);
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}
