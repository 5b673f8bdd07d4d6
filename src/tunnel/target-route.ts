import type { Http2Stream } from 'node:http2';
import type { Duplex, Readable } from 'node:stream';
import { CALLER_PREFIX } from './caller.ts';
import { endedWhole } from './cut.ts';
import { endToEnd } from './headers.ts';
import { TargetError } from './target-error.ts';
import type { RawHeaders } from './upstream.ts';

/** Where the requests of one pool go. Requests that may not share a connection have different keys. */
export type Route = {
  key: string;
  /** For messages. */
  name: string;
  /** A new connection, with TLS where the target speaks it. Rejects with TargetError. */
  connect: () => Promise<Duplex>;
};

/** An HTTP/2 stream says 'end' after a reset too: half a body must not reach the target as a whole one. */
export const isWhole = (source: Readable) => !('rstCode' in source) || endedWhole(source as unknown as Http2Stream);

/** What hub and agent say to each other in an answer is not for targets to say. */
export const answered = (raw: RawHeaders) => endToEnd(raw, (name) => name.startsWith(CALLER_PREFIX));

export const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error));
const codeOf = (error: unknown) => (error instanceof Error && 'code' in error ? String(error.code) : '');
export const isCut = (error: Error) => ['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE'].includes(codeOf(error)) && !(error instanceof TargetError);

/** What went wrong with a target, in words that name it. */
export function explain(route: Route, error: Error): TargetError {
  if (error instanceof TargetError) return error;
  return new TargetError(502, `the connection to ${route.name} broke: ${messageOf(error)}`, { cause: error });
}
