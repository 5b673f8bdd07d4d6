import type { IncomingMessage, ServerResponse } from 'node:http';
import { promisify } from 'node:util';
import { constants, gzip } from 'node:zlib';
import type { StatusError } from '../../kube/status.ts';
import { encodeObject, JSON_TYPE, LIST_CONVERSIONS, type Negotiated, negotiate, OBJECT_CONVERSIONS, OBJECT_TYPES } from './negotiate.ts';
import type { Column, Reply, ResourceInfo } from './resource.ts';
import { convertObject } from './table.ts';

const compress = promisify(gzip);
/** kube-apiserver compresses from this size on, at the same level. */
const GZIP_BYTES = 128 * 1024;
/** As Go's server, which kube-apiserver's transport is made for. */
const LINGER_MS = 500;

/** What the client wants, found out before anything is done for it. Throws StatusError 406. */
export function negotiateReply(request: IncomingMessage, info: ResourceInfo): Negotiated {
  return negotiate(request.headers.accept, OBJECT_TYPES, info.verb === 'list' ? LIST_CONVERSIONS : OBJECT_CONVERSIONS);
}

/** Sends what a handler answered. */
export async function respond(
  request: IncomingMessage,
  response: ServerResponse,
  reply: Reply,
  wanted: Negotiated,
  context: { query: URLSearchParams; columns: Column<never>[] },
): Promise<void> {
  if ('stream' in reply) return await reply.stream(request, response);
  for (const [name, value] of Object.entries(reply.headers ?? {})) response.setHeader(name, value);
  response.setHeader('cache-control', 'no-cache, private');
  response.setHeader('vary', 'Accept, Accept-Encoding');
  if ('json' in reply) return await send(request, response, reply.code ?? 200, JSON_TYPE, reply.json);
  const object = convertObject(wanted.convert, context.columns, reply.object, context.query);
  await send(request, response, reply.code ?? 200, wanted.mediaType, encodeObject(object, wanted.mediaType, context.query.get('pretty')));
}

/** Sends an error. A body that was not read is not waited for: the connection closes. */
export function respondError(request: IncomingMessage, response: ServerResponse, error: StatusError): void {
  if (response.headersSent) {
    // The answer has begun: only cutting it tells the client that it is not whole.
    response.destroy();
    return;
  }
  const { code, details } = error.status;
  const body = `${JSON.stringify(error.status)}\n`;
  for (const name of response.getHeaderNames()) if (!KEPT.has(name)) response.removeHeader(name);
  if (!request.complete) response.setHeader('connection', 'close');
  if (details?.retryAfterSeconds !== undefined) response.setHeader('retry-after', String(details.retryAfterSeconds));
  if (code === 401) response.setHeader('www-authenticate', 'Bearer realm="kubernetes"');
  response.writeHead(code, { 'content-type': JSON_TYPE, 'cache-control': 'no-cache, private', 'content-length': Buffer.byteLength(body) });
  if (request.complete || request.method === 'HEAD') response.end(request.method === 'HEAD' ? undefined : body);
  else endAfterBody(request, response, body);
}

/**
 * Answers a request whose body is still coming. The rest is read for a moment and thrown away: a connection that is closed with bytes unread is reset, and
 * kube-apiserver would then say that the service cannot be reached instead of passing on the answer. The client has all of the answer meanwhile.
 */
function endAfterBody(request: IncomingMessage, response: ServerResponse, body: string): void {
  response.write(body);
  const end = () => {
    clearTimeout(timer);
    request.off('end', end).off('close', end).off('error', end);
    response.end();
  };
  const timer = setTimeout(end, LINGER_MS);
  request.on('end', end).on('close', end).on('error', end);
  request.resume();
}

/** Headers set before an error that still hold. */
const KEPT = new Set(['audit-id', 'warning', 'allow']);

async function send(request: IncomingMessage, response: ServerResponse, code: number, type: string, text: string | Buffer): Promise<void> {
  let body: Buffer = typeof text === 'string' ? Buffer.from(text) : text;
  if (body.length >= GZIP_BYTES && /\bgzip\b/.test(String(request.headers['accept-encoding'] ?? ''))) {
    body = await compress(body, { level: constants.Z_BEST_SPEED });
    response.setHeader('content-encoding', 'gzip');
  }
  response.writeHead(code, { 'content-type': type, 'content-length': body.length });
  response.end(request.method === 'HEAD' ? undefined : body);
}
