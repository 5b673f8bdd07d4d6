import { randomUUID } from 'node:crypto';
import type { ServerHttp2Stream } from 'node:http2';
import { decodeCaller } from '../../tunnel/caller.ts';
import { headerValue } from '../../tunnel/headers.ts';
import type { StreamHandler } from '../../tunnel/session.ts';
import type { RawHeaders } from '../../tunnel/upstream.ts';
import { type ApiAnswer, MAX_BODY, mediaType, readBytes } from '../lifecycle/api/request.ts';
import type { Requester } from '../lifecycle/api/service.ts';
import { type AgentApi, refusal } from './agent-api.ts';
import type { AgentAnswers } from './answers.ts';
import { writeLines } from './write-lines.ts';

const AUDIT_ID = /^[\x21-\x7e]{1,128}$/;

/**
 * The agent's own API for requests that come through a tunnel. Who may ask is decided by the hub; who asked it says in the caller's headers. Without them (health and metrics, which the
 * hub asks for itself) only `answers` is there.
 */
export function apiStreams(api: AgentApi, answers: AgentAnswers, onError: (error: unknown) => void): StreamHandler {
  return (stream, headers, rawHeaders) => {
    const gone = new AbortController();
    stream.once('close', () => gone.abort());
    stream.on('error', () => undefined);
    serve(stream, headers[':method'] ?? '', headers[':path'] ?? '', rawHeaders, gone.signal).catch((error: unknown) => {
      if (!gone.signal.aborted) onError(error);
      if (!stream.destroyed) stream.destroy();
    });
  };

  async function serve(stream: ServerHttp2Stream, method: string, target: string, headers: RawHeaders, signal: AbortSignal): Promise<void> {
    const requester = requesterOf(headers);
    if (!requester || method === 'GET' || method === 'HEAD') {
      // A body that nobody asked for is thrown away, so that the session's window does not fill.
      stream.resume();
      const request = { method, target, contentType: '', body: Buffer.alloc(0), signal };
      await respond(stream, method, requester ? await api({ ...request, requester }) : await withoutCaller(method, target), signal);
      return;
    }
    const body = Number(headerValue(headers, 'content-length') ?? 0) > MAX_BODY ? undefined : await readBytes(stream);
    if (!body) {
      stream.resume();
      await respond(stream, method, refusal(413, 'RequestEntityTooLarge', `the body is longer than ${MAX_BODY} bytes`), signal);
      return;
    }
    const contentType = mediaType(headerValue(headers, 'content-type'));
    await respond(stream, method, await api({ method, target, contentType, body, requester, signal }), signal);
  }

  async function withoutCaller(method: string, target: string): Promise<ApiAnswer> {
    return /^\/(api|openapi)\b/.test(target)
      ? refusal(403, 'Forbidden', 'the request does not say who asks')
      : await answers(method, target);
  }
}

/** Who asks; undefined when the headers name nobody, or cannot be read. */
function requesterOf(headers: RawHeaders): Requester | undefined {
  try {
    const given = headerValue(headers, 'audit-id') ?? '';
    return { user: decodeCaller(headers).name, auditID: AUDIT_ID.test(given) ? given : randomUUID() };
  } catch {
    return undefined;
  }
}

async function respond(stream: ServerHttp2Stream, method: string, answer: ApiAnswer, signal: AbortSignal): Promise<void> {
  if (stream.destroyed || stream.headersSent) return;
  const headers = { ':status': answer.code, 'content-type': answer.contentType, 'cache-control': 'no-store' };
  if ('lines' in answer) {
    stream.respond(headers);
    await writeLines(stream, answer.lines, signal);
    return;
  }
  stream.respond({ ...headers, 'content-length': Buffer.byteLength(answer.body) }, { endStream: method === 'HEAD' });
  if (method !== 'HEAD') stream.end(answer.body);
}
