import type { IncomingMessage } from 'node:http';
import { request as httpRequest } from 'node:http';
import type { Flight, Target } from './flight.ts';
import { openConnection, TransportError } from './flight.ts';

/** A signed request; `path` with its query, exactly as signed. */
export type WireRequest = { method: string; path: string; headers: Record<string, string>; body: string | Uint8Array };

/** A whole answer; header names in lower case. */
export type WireAnswer = { status: number; headers: Record<string, string>; body: Buffer };

/** No answer of the calls used here is near this size (bytes). */
const MAX_ANSWER = 4 << 20;

/**
 * Sends one request on a connection of its own and reads the whole answer. Redirects are not followed. Rejects with TransportError; whether bytes
 * had left by then says `flight.sent`.
 */
export async function send(target: Target, request: WireRequest, flight: Flight): Promise<WireAnswer> {
  const socket = await openConnection(target, flight);
  try {
    return await new Promise<WireAnswer>((resolve, reject) => {
      const fail = (error: NodeJS.ErrnoException) => {
        const code = flight.failure || error.code || error.name;
        reject(new TransportError(code, `connection to ${target.host}:${target.port} failed: ${code}`));
      };
      const outgoing = httpRequest(
        {
          method: request.method,
          path: request.path,
          headers: { ...request.headers, connection: 'close', 'content-length': Buffer.byteLength(request.body) },
          setHost: false,
          createConnection: () => socket,
          maxHeaderSize: 64 << 10,
        },
        (incoming) => readAnswer(incoming).then(resolve, fail),
      );
      outgoing.on('error', fail);
      outgoing.end(request.body);
    });
  } finally {
    socket.destroy();
  }
}

async function readAnswer(incoming: IncomingMessage): Promise<WireAnswer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of incoming) {
    const bytes = Buffer.from(chunk);
    size += bytes.length;
    if (size > MAX_ANSWER) throw new TransportError('ANSWER_TOO_LARGE', 'the answer is too large');
    chunks.push(bytes);
  }
  if (!incoming.complete) throw new TransportError('CUT', 'the answer was cut');
  const headers: Record<string, string> = {};
  for (const [name, values] of Object.entries(incoming.headersDistinct)) headers[name] = values?.join(', ') ?? '';
  return { status: incoming.statusCode ?? 0, headers, body: Buffer.concat(chunks) };
}
