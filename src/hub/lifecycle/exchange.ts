import { PassThrough, Readable } from 'node:stream';
import { badGateway } from '../../kube/status.ts';
import { AGENT_AUTHORITY } from '../../tunnel/protocol.ts';
import type { RawHeaders, Upstream } from '../../tunnel/upstream.ts';

/** A request to the agent itself. */
export type AgentRequest = { method: string; path: string; headers: RawHeaders; body?: Buffer };

/** Its answer. `body` ends with an error when it was cut; destroying it gives the exchange up. */
export type OpenAnswer = { code: number; headers: RawHeaders; body: Readable };

/** Sends a request and resolves when the head of the answer is there. Rejects with what stopped it (TargetError, or the signal's reason). */
export function openExchange(upstream: Upstream, request: AgentRequest, signal: AbortSignal): Promise<OpenAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<OpenAnswer>();
  const body = new PassThrough();
  let whole = false;
  let abort = () => {};
  const giveUp = () => {
    const reason: unknown = signal.reason;
    reject(reason);
    abort();
    body.destroy(reason instanceof Error ? reason : undefined);
  };
  if (signal.aborted) {
    giveUp();
    return promise;
  }
  body.once('finish', () => {
    whole = true;
  });
  // Whoever reads the body hears of its errors; before the head nobody does.
  body.on('error', () => undefined);
  body.once('close', () => {
    signal.removeEventListener('abort', giveUp);
    if (!whole) abort();
  });
  signal.addEventListener('abort', giveUp, { once: true });
  const bytes = request.body;
  const exchange = upstream.exchange(
    {
      method: request.method,
      scheme: 'https',
      authority: AGENT_AUTHORITY,
      path: request.path,
      headers: bytes ? [...request.headers, 'content-length', String(bytes.length)] : request.headers,
    },
    bytes && { stream: Readable.from([bytes], { objectMode: false }), trailers: () => [] },
    {
      head(code, headers) {
        resolve({ code, headers, body });
        return body;
      },
      trailers: () => undefined,
      fail(error) {
        reject(error);
        body.destroy(error);
      },
    },
  );
  abort = () => exchange.abort();
  if (body.destroyed) abort();
  return promise;
}

/** The whole body. Throws StatusError 502 when it has more than `limit` bytes, and what cut it. */
export async function wholeBody({ body }: OpenAnswer, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  // Leaving the loop destroys the body.
  for await (const chunk of body as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > limit) throw badGateway(`the agent's answer is larger than ${limit} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, length);
}
