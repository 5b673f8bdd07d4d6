import { STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import type { StatusError } from '../../kube/status.ts';
import type { RawHeaders } from '../../tunnel/upstream.ts';

/** Answers on a connection that Node has handed over for an upgrade: the head by hand, and the connection ends with the answer. */
export function writeHead(socket: Duplex, code: number, headers: RawHeaders): void {
  const lines = [`HTTP/1.1 ${code} ${STATUS_CODES[code] ?? 'Unknown'}`];
  for (let at = 0; at + 1 < headers.length; at += 2) lines.push(`${headers[at]}: ${headers[at + 1]}`);
  socket.write(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
}

/** A Status instead of an upgrade. What the client sends further is thrown away, and the connection closes. */
export function refuseUpgrade(socket: Duplex, error: StatusError, headers: RawHeaders = []): void {
  if (socket.destroyed || !socket.writable) {
    socket.destroy();
    return;
  }
  const body = Buffer.from(`${JSON.stringify(error.status)}\n`);
  const retry = error.status.details?.retryAfterSeconds;
  writeHead(socket, error.status.code, [
    ...headers,
    ...(retry === undefined ? [] : ['retry-after', String(retry)]),
    'content-type',
    'application/json',
    'cache-control',
    'no-cache, private',
    'content-length',
    String(body.length),
    'connection',
    'close',
  ]);
  socket.end(body);
  endSoon(socket);
}

/** Lets the client read the answer, then ends the connection whatever it does. */
export function endSoon(socket: Duplex): void {
  socket.resume();
  const timer = setTimeout(() => socket.destroy(), 2_000);
  socket.once('close', () => clearTimeout(timer));
  socket.once('finish', () => setTimeout(() => socket.destroy(), 500).unref());
}
