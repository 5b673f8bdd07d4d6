import type { ClientHttp2Stream, IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http2';
import type { Duplex, Writable } from 'node:stream';
import { cutStream, endedWhole } from './cut.ts';
import { gather } from './gather.ts';
import { endToEnd, headerValue } from './headers.ts';
import { METHOD_HEADER, REFUSED_STATUS_HEADER } from './protocol.ts';
import { type HubTunnel, headerBlockSize, MAX_HEADER_BLOCK } from './session.ts';
import { TargetError } from './target-error.ts';
import type { Answer, Exchange, RawHeaders, Upstream } from './upstream.ts';

/** Carries requests over the calling side of a session: the hub to an agent, or a replica to the one that holds the tunnel. */
export function sessionUpstream(tunnel: HubTunnel, what: string): Upstream {
  const { session } = tunnel;

  /** A new stream; undefined (and the answer failed) when the session takes no more. */
  function open(
    headers: readonly string[],
    options: { endStream: boolean; waitForTrailers?: boolean },
    answer: Answer,
  ): ClientHttp2Stream | undefined {
    const size = headerBlockSize(headers);
    if (size > MAX_HEADER_BLOCK) {
      answer.fail(new TargetError(400, `the headers of the request and the caller's groups are too long for the tunnel: ${size} bytes`));
      return undefined;
    }
    try {
      // Node takes flat lists too, which keeps repeated names and saves an object.
      return session.request(headers as unknown as OutgoingHttpHeaders, options);
    } catch (error) {
      answer.fail(new TargetError(503, `the tunnel to ${what} takes no requests now`, { cause: error }));
      return undefined;
    }
  }

  return {
    exchange(head, body, answer) {
      const headers = [':method', head.method, ':scheme', head.scheme, ':authority', head.authority, ':path', head.path, ...head.headers];
      const stream = open(
        headers,
        { endStream: body === undefined, ...(body && headerValue(head.headers, 'trailer') !== undefined && { waitForTrailers: true }) },
        answer,
      );
      if (!stream) return { abort: () => undefined };
      if (body) {
        const { trailers } = body;
        pipeBody(body.stream, stream, trailers);
      }
      return receive(stream, answer, what, (code, raw) => {
        const sink = answer.head(code, raw);
        stream.on('trailers', (_headers: IncomingHttpHeaders, _flags: number, rawTrailers?: string[]) =>
          answer.trailers(endToEnd(rawTrailers ?? [])),
        );
        return sink;
      });
    },
    upgrade(head, protocol, answer) {
      const headers = [
        ':method',
        'CONNECT',
        ':protocol',
        protocol,
        ':scheme',
        head.scheme,
        ':authority',
        head.authority,
        ':path',
        head.path,
      ];
      // What follows is no body: HTTP/2 would hold it against the length.
      const travelling = endToEnd(head.headers, (name) => name === 'content-length');
      const stream = open([...headers, METHOD_HEADER, head.method, ...travelling], { endStream: false }, answer);
      if (!stream) return { abort: () => undefined };
      return receive(stream, answer, what, (code, raw) => {
        if (code === 200) {
          answer.switched(raw, stream);
          return undefined;
        }
        // Not switched: what the client sends meanwhile is nobody's.
        stream.end();
        const refused = headerValue(raw, REFUSED_STATUS_HEADER) ?? '';
        return answer.head(/^2[0-9][0-9]$/.test(refused) ? Number(refused) : code, raw);
      });
    },
  };
}

/** Feeds a request's body into a stream, with backpressure; trailers follow when there are any. */
function pipeBody(source: NodeJS.ReadableStream, stream: ClientHttp2Stream, trailers: () => RawHeaders): void {
  source.on('data', (chunk: Buffer) => {
    if (stream.writable && !stream.write(chunk)) source.pause();
  });
  stream.on('drain', () => source.resume());
  source.once('end', () => {
    // Only a stream that was opened for trailers asks for them, after the last bytes.
    stream.once('wantTrailers', () => {
      try {
        const last = trailers();
        if (headerBlockSize(last) > MAX_HEADER_BLOCK) throw new Error('the trailers are too long');
        stream.sendTrailers(toObject(last));
      } catch {
        // What HTTP/2 cannot carry ends this request and nothing else.
        cutStream(stream);
      }
    });
    stream.end();
  });
  source.once('error', () => cutStream(stream));
}

function toObject(raw: RawHeaders): OutgoingHttpHeaders {
  const headers: Record<string, string[]> = {};
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = raw[at] ?? '';
    headers[name] = [...(headers[name] ?? []), raw[at + 1] ?? ''];
  }
  return headers;
}

/** Waits for the head, pipes the body where `onHead` says, and tells of an end before its time. */
function receive(
  stream: ClientHttp2Stream,
  answer: Answer,
  what: string,
  onHead: (code: number, raw: string[]) => Writable | Duplex | undefined,
): Exchange {
  let answered = false;
  let over = false;
  let whole = false;
  const fail = (error: Error) => {
    if (over) return;
    over = true;
    answer.fail(error);
  };
  stream.on('response', (headers: IncomingHttpHeaders, _flags: number, raw: string[]) => {
    if (over) return;
    answered = true;
    const code = Number(headers[':status'] ?? 502);
    let sink: Writable | Duplex | undefined;
    try {
      sink = onHead(code, endToEnd(raw));
    } catch (error) {
      // The other side's session is no proof of good manners: an answer that cannot be written must not end this process.
      fail(new TargetError(502, `the answer from ${what} (${code}) cannot be passed on`, { cause: error }));
      cutStream(stream);
      return;
    }
    if (!sink) {
      over = true;
      return;
    }
    const to = gather(sink);
    stream.on('data', (chunk: Buffer) => {
      if (!to.write(chunk)) stream.pause();
    });
    sink.on('drain', () => stream.resume());
    stream.on('end', () => {
      whole = endedWhole(stream);
      if (!whole || over) return;
      over = true;
      to.end();
    });
  });
  stream.on('aborted', () => fail(new TargetError(503, `the tunnel to ${what} was lost before the answer was whole`)));
  stream.on('error', (error) => fail(new TargetError(503, `the tunnel to ${what} was lost`, { cause: error })));
  stream.on('close', () => {
    if (!whole)
      fail(
        new TargetError(503, answered ? `the tunnel to ${what} was lost before the answer was whole` : `the tunnel to ${what} was lost`),
      );
  });
  return {
    abort() {
      over = true;
      cutStream(stream);
    },
  };
}
