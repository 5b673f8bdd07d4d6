import { type Agent, request } from 'node:https';
import { connect, type TLSSocket } from 'node:tls';
import type { Issued } from '../../../src/hub/certificates/x509.ts';

export type CallOptions = {
  port: number;
  /** CA of the server's certificate. */
  ca: string;
  client?: Pick<Issued, 'cert' | 'key'>;
  /** Alternating names and values. */
  headers?: string[];
  agent?: Agent;
};

export type CallAnswer = { code: number; body: Record<string, unknown>; ms: number };

/** One POST over TLS; without an agent on a connection of its own. */
export function call({ port, ca, client, headers = [], agent }: CallOptions): Promise<CallAnswer> {
  const began = performance.now();
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        host: '127.0.0.1',
        port,
        method: 'POST',
        path: '/',
        agent: agent ?? false,
        ca,
        servername: 'localhost',
        headers: ['Host', 'localhost', 'Content-Length', '0', ...headers] as never,
        ...(client && { cert: client.cert, key: client.key }),
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          const body = JSON.parse(Buffer.concat(chunks).toString() || '{}') as Record<string, unknown>;
          resolve({ code: response.statusCode ?? 0, body, ms: performance.now() - began });
        });
      },
    );
    sent.on('error', reject);
    sent.end();
  });
}

/** Sends the bytes as they are and returns all that comes back until the server closes. */
export function callRaw(options: Pick<CallOptions, 'port' | 'ca' | 'client'>, bytes: Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    const socket: TLSSocket = connect(
      {
        host: '127.0.0.1',
        port: options.port,
        ca: options.ca,
        servername: 'localhost',
        ...(options.client && { cert: options.client.cert, key: options.client.key }),
      },
      () => socket.write(bytes),
    );
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.on('error', reject);
    socket.on('close', () => resolve(Buffer.concat(chunks).toString('utf8')));
    socket.setTimeout(10_000, () => socket.destroy(new Error('no answer within 10 s')));
  });
}
