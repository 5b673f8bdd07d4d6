import type { ServerHttp2Stream } from 'node:http2';
import type { StreamHandler } from '../../tunnel/session.ts';
import type { AgentAnswers, ApiAnswer } from './answers.ts';

/** The agent's own API for requests that come through a tunnel. Who may ask is decided by the hub. */
export function apiStreams(answers: AgentAnswers, onError: (error: unknown) => void): StreamHandler {
  return (stream, headers) => {
    // No path takes a body; one that comes is thrown away, so that the session's window does not fill.
    stream.resume();
    const method = headers[':method'] ?? '';
    answers(method, headers[':path'] ?? '')
      .then((answer) => respond(stream, method, answer))
      .catch((error: unknown) => {
        onError(error);
        if (!stream.destroyed) stream.destroy();
      });
  };
}

function respond(stream: ServerHttp2Stream, method: string, { code, contentType, body }: ApiAnswer): void {
  if (stream.destroyed || stream.headersSent) return;
  stream.respond(
    { ':status': code, 'content-type': contentType, 'content-length': Buffer.byteLength(body), 'cache-control': 'no-store' },
    { endStream: method === 'HEAD' },
  );
  if (method !== 'HEAD') stream.end(body);
}
