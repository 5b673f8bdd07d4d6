import { randomUUID } from 'node:crypto';
import { chmod, lstat, mkdir, unlink } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { type ApiAnswer, MAX_BODY, mediaType, readBytes } from '../lifecycle/api/request.ts';
import { type AgentApi, refusal } from './agent-api.ts';
import { writeLines } from './write-lines.ts';

const MODE = 0o660;
const FOLDER_MODE = 0o750;

/**
 * Answers the agent's API on a Unix socket, for root and the socket's group. A socket that nobody listens at any more is replaced. Rejects when another agent listens there, or when
 * the place cannot be used.
 */
export async function socketServer(path: string, api: AgentApi, onError: (error: unknown) => void): Promise<{ close(): Promise<void> }> {
  const server = createServer({ maxHeaderSize: 16_384, requestTimeout: 30_000, headersTimeout: 10_000 }, (request, response) => {
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    serve(api, request, response, gone.signal).catch((error: unknown) => {
      if (!gone.signal.aborted) onError(error);
      response.destroy();
    });
  });
  server.maxConnections = 100;
  await mkdir(dirname(path), { recursive: true, mode: FOLDER_MODE });
  await removeStale(path);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    // The socket is made in this call: it is never there with another mode.
    const umask = process.umask(0o777 & ~MODE);
    try {
      server.listen(path, () => {
        server.off('error', reject);
        resolve();
      });
    } finally {
      process.umask(umask);
    }
  });
  await chmod(path, MODE);
  server.on('error', onError);
  return {
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}

async function removeStale(path: string): Promise<void> {
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (!found) return;
  if (!found.isSocket()) throw new Error(`--socket ${path}: there is something else than a socket`);
  const listens = await new Promise<boolean>((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });
  if (listens) throw new Error(`--socket ${path}: another agent listens there`);
  await unlink(path);
}

async function serve(api: AgentApi, request: IncomingMessage, response: ServerResponse, signal: AbortSignal): Promise<void> {
  const { method = '', url = '', headers } = request;
  const tooLong = Number(headers['content-length'] ?? 0) > MAX_BODY;
  const body = tooLong ? undefined : await readBytes(request);
  // Who is at the other end of the socket, Node does not tell; its Audit-ID is ours, so that none can be used twice.
  const requester = { user: 'local', auditID: randomUUID() };
  const answer = body
    ? await api({ method, target: url, contentType: mediaType(headers['content-type']), body, requester, signal })
    : refusal(413, 'RequestEntityTooLarge', `the body is longer than ${MAX_BODY} bytes`);
  await respond(response, method, answer, signal, body === undefined);
}

async function respond(response: ServerResponse, method: string, answer: ApiAnswer, signal: AbortSignal, last: boolean): Promise<void> {
  const headers = { 'content-type': answer.contentType, 'cache-control': 'no-store', ...(last && { connection: 'close' }) };
  if ('lines' in answer) {
    response.writeHead(answer.code, headers);
    response.flushHeaders();
    await writeLines(response, answer.lines, signal);
    return;
  }
  response.writeHead(answer.code, { ...headers, 'content-length': Buffer.byteLength(answer.body) });
  response.end(method === 'HEAD' ? undefined : answer.body);
}
