import { constants, type IncomingHttpHeaders, type OutgoingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import { type Duplex, Writable } from 'node:stream';
import { cutStream } from './cut.ts';
import { endToEnd, headerValue } from './headers.ts';
import { joinStreams } from './join.ts';
import { AGENT_ERROR_HEADER, METHOD_HEADER, REFUSED_STATUS_HEADER } from './protocol.ts';
import { headerBlockSize, MAX_HEADER_BLOCK } from './session.ts';
import { TargetError, targetStatus } from './target-error.ts';
import type { Exchange, RawHeaders, RequestHead, UpgradeAnswer, Upstream } from './upstream.ts';

/** The head of the request that a stream carries. All `fairlead-` headers are still in it. */
export function requestHead(headers: IncomingHttpHeaders, rawHeaders: RawHeaders): RequestHead {
  const method = headers[':method'] === 'CONNECT' ? (headerValue(rawHeaders, METHOD_HEADER) ?? 'GET') : String(headers[':method'] ?? 'GET');
  return {
    method,
    scheme: headers[':scheme'] === 'http' ? 'http' : 'https',
    authority: headers[':authority'] ?? '',
    path: headers[':path'] ?? '/',
    headers: endToEnd(rawHeaders),
  };
}

/** Answers one stream of the accepting side out of `upstream`. A stream that the other side gives up ends the exchange. */
export function serveStream(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, rawHeaders: RawHeaders, upstream: Upstream): void {
  const head = requestHead(headers, rawHeaders);
  let exchange: Exchange | undefined;
  let over = false;
  const isUpgrade = headers[':method'] === 'CONNECT';
  /** A target may answer what HTTP/2 cannot carry, a status above 599 for one; that must end the request and nothing else. */
  const unusable = (code: number, cause: unknown) => {
    answer.fail(new TargetError(502, `the target's answer (${code}) cannot be passed on`, { cause }));
    exchange?.abort();
  };
  const answer: UpgradeAnswer = {
    head(code, raw) {
      const waitForTrailers = mayHaveTrailers(head.method, code, raw);
      let trailers: RawHeaders = [];
      if (waitForTrailers) stream.on('wantTrailers', () => sendTrailers(stream, trailers));
      answer.trailers = (last) => {
        trailers = last;
      };
      if (!stream.destroyed && !stream.closed) {
        const status = isUpgrade && code < 300 ? [':status', '502', REFUSED_STATUS_HEADER, String(code)] : [':status', String(code)];
        try {
          if (headerBlockSize(raw) > MAX_HEADER_BLOCK) throw new Error('the headers are too long');
          // Node takes flat lists too, which keeps repeated names.
          stream.respond([...status, ...raw] as unknown as OutgoingHttpHeaders, { waitForTrailers });
        } catch (error) {
          unusable(code, error);
          return new Writable({ write: (_chunk, _encoding, done) => done() });
        }
      }
      return stream;
    },
    trailers: () => undefined,
    switched(raw, target: Duplex) {
      if (stream.destroyed || stream.closed) {
        target.destroy();
        return;
      }
      try {
        if (headerBlockSize(raw) > MAX_HEADER_BLOCK) throw new Error('the headers are too long');
        stream.respond([':status', '200', ...raw] as unknown as OutgoingHttpHeaders);
      } catch (error) {
        target.destroy();
        unusable(101, error);
        return;
      }
      joinStreams(stream, target);
    },
    fail(error) {
      if (over) return;
      over = true;
      if (stream.destroyed || stream.closed) return;
      if (stream.headersSent) cutStream(stream);
      else refuseStream(stream, error);
    },
  };
  stream.once('close', () => {
    if (over) return;
    over = true;
    // A stream that ended well has nothing upstream any more; otherwise the other side has given up.
    // Node's own destroy() on the other side resets with NO_ERROR: only `aborted` tells.
    if (stream.aborted || stream.rstCode !== constants.NGHTTP2_NO_ERROR || !stream.writableFinished) exchange?.abort();
  });
  const protocol = headers[':protocol'];
  if (isUpgrade) exchange = upstream.upgrade(head, typeof protocol === 'string' ? protocol : '', answer);
  else {
    let trailers: RawHeaders = [];
    stream.on('trailers', (_headers: IncomingHttpHeaders, _flags: number, raw?: string[]) => {
      trailers = endToEnd(raw ?? []);
    });
    exchange = upstream.exchange(head, stream.endAfterHeaders ? undefined : { stream, trailers: () => trailers }, answer);
  }
}

/**
 * Trailers need not be announced (RFC 9110, section 6.6.2), but only an answer whose length its head does not say can have them. Waiting for them costs such an answer an empty frame
 * at its end, and all others nothing.
 */
const mayHaveTrailers = (method: string, code: number, headers: RawHeaders): boolean =>
  method !== 'HEAD' && code !== 204 && code !== 304 && headerValue(headers, 'content-length') === undefined;

/** Answers a stream with an error of this side. A body that is still coming is read away, so that the answer is not lost in a reset. */
export function refuseStream(stream: ServerHttp2Stream, error: Error): void {
  const known = error instanceof TargetError ? error : new TargetError(502, 'the agent could not handle the request');
  stream.resume();
  stream.respond({ ':status': known.code, 'content-type': 'application/json', [AGENT_ERROR_HEADER]: String(known.code) });
  stream.end(targetStatus(known));
}

function sendTrailers(stream: ServerHttp2Stream, trailers: RawHeaders): void {
  try {
    if (headerBlockSize(trailers) > MAX_HEADER_BLOCK) throw new Error('the trailers are too long');
    stream.sendTrailers(asObject(trailers));
  } catch {
    cutStream(stream);
  }
}

function asObject(raw: RawHeaders): OutgoingHttpHeaders {
  const headers: Record<string, string[]> = {};
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = raw[at] ?? '';
    headers[name] = [...(headers[name] ?? []), raw[at + 1] ?? ''];
  }
  return headers;
}
