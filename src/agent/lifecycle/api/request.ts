import type { Readable } from 'node:stream';
import type { Requester } from './service.ts';

/** A request to the agent itself, whichever way it came. */
export type ApiRequest = {
  method: string;
  /** Path and query as they were sent. */
  target: string;
  /** Without parameters, in lower case; '' when there was none. */
  contentType: string;
  body: Buffer;
  requester: Requester;
  /** Aborted when the other side goes away. */
  signal: AbortSignal;
};

/** An answer, whole or line by line. */
export type ApiAnswer =
  | { code: number; contentType: string; body: string }
  | { code: number; contentType: string; lines: AsyncIterable<string> };

/** No body that means something is longer. */
export const MAX_BODY = 1 << 20;

/** The type of a Content-Type header. */
export const mediaType = (header: string | undefined): string => (header ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? '';

/** Collects a body. Undefined when it is longer than MAX_BODY; the rest is then not kept, and the stream can still be answered. Rejects when it breaks off. */
export async function readBytes(body: Readable): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of body.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_BODY) {
      body.resume();
      return undefined;
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
