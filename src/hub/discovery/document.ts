import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { methodNotAllowed } from '../../kube/status.ts';

/** An answer that is made once and sent often. `etag` has its quotes. */
export type StaticDocument = { body: Buffer; contentType: string; etag: string; hash: string };

/** How express, and anything like it, calls a handler. */
export type Next = (error?: unknown) => void;
export type StaticHandler = (request: IncomingMessage, response: ServerResponse, next: Next) => void;

/** A document of `value` as JSON; the ETag is the SHA-512 of the text in hex, as kube-apiserver makes it. */
export function jsonDocument(value: unknown, contentType = 'application/json'): StaticDocument {
  const body = Buffer.from(`${JSON.stringify(value)}\n`);
  const hash = createHash('sha512').update(body).digest('hex').toUpperCase();
  return { body, contentType, etag: `"${hash}"`, hash };
}

/** True when the method is GET or HEAD; else hands a 405 with `Allow` to `next`. */
export function isRead(request: IncomingMessage, response: ServerResponse, next: Next): boolean {
  if (request.method === 'GET' || request.method === 'HEAD') return true;
  response.setHeader('Allow', 'GET, HEAD');
  next(methodNotAllowed(request.method ?? ''));
  return false;
}

/** Path and query of a request target, apart. A trailing slash is dropped: `/apis/` is `/apis`. */
export function splitTarget(request: IncomingMessage): { path: string; query: string } {
  const target = request.url ?? '/';
  const mark = target.indexOf('?');
  const path = mark < 0 ? target : target.slice(0, mark);
  return {
    path: path.length > 1 && path.endsWith('/') ? path.slice(0, -1) : path,
    query: mark < 0 ? '' : target.slice(mark + 1),
  };
}

/** Answers with the document, or 304 when the client has it. */
export function sendDocument(
  request: IncomingMessage,
  response: ServerResponse,
  document: StaticDocument,
  headers: Record<string, string> = { 'Cache-Control': 'public' },
): void {
  const common = { ETag: document.etag, Vary: 'Accept', ...headers };
  if (knows(request.headers['if-none-match'], document.etag)) {
    response.writeHead(304, common).end();
    return;
  }
  response.writeHead(200, { ...common, 'Content-Type': document.contentType, 'Content-Length': document.body.length });
  response.end(request.method === 'HEAD' ? undefined : document.body);
}

function knows(ifNoneMatch: string | undefined, etag: string): boolean {
  if (!ifNoneMatch) return false;
  if (ifNoneMatch === etag || ifNoneMatch.trim() === '*') return true;
  return ifNoneMatch.split(',', 32).some((one) => one.trim().replace(/^W\//, '') === etag);
}
