import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import type { Duplex } from 'node:stream';
import { ATTACH_HEADERS, ATTACHED_HEADERS, attachPath, UPGRADE_TOKEN } from '../../tunnel/protocol.ts';
import { retryAfterMs } from '../backoff.ts';
import type { Parent } from '../parent/parent.ts';

/** One attempt to open a tunnel. */
export type Dial = {
  parent: Parent;
  clusterId: string;
  token: string;
  instance: string;
  version: string;
  /** Replicas that there is a tunnel to already. */
  have: readonly string[];
  signal: AbortSignal;
};

/** What came of it. `replicas` is how many replicas the hub has, undefined when it did not say. */
export type Dialled =
  | { kind: 'attached'; socket: Duplex; head: Buffer; replica: string; replicas: number | undefined }
  /** It went to a replica of `have`. */
  | { kind: 'duplicate'; replica: string; replicas: number | undefined; retryAfterMs: number }
  /** Any other answer. */
  | { kind: 'answered'; code: number; message: string; retryAfterMs: number };

const ANSWER_MS = 15_000;
const MAX_BODY = 8_192;

/** Asks for a tunnel at the cluster's socket. Rejects when no answer comes; the error holds no credential. */
export async function dial({ parent, clusterId, token, instance, version, have, signal }: Dial): Promise<Dialled> {
  const socket = await parent.open(signal);
  const limit = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]);
  const { url } = parent;
  return await new Promise<Dialled>((resolve, reject) => {
    const sent: ClientRequest = request({
      createConnection: () => socket,
      method: 'POST',
      host: url.hostname,
      path: url.pathname.replace(/\/$/, '') + attachPath(clusterId),
      headers: {
        host: url.host,
        connection: 'Upgrade',
        upgrade: UPGRADE_TOKEN,
        authorization: `Bearer ${token}`,
        'user-agent': `fairlead-agent/${version}`,
        'content-length': '0',
        [ATTACH_HEADERS.instance]: instance,
        [ATTACH_HEADERS.version]: version,
        ...(have.length > 0 && { [ATTACH_HEADERS.have]: have.join(',') }),
      },
    });
    const giveUp = () => sent.destroy(new Error(signal.aborted ? 'given up' : `no answer within ${ANSWER_MS / 1_000} s`));
    if (limit.aborted) giveUp();
    else limit.addEventListener('abort', giveUp, { once: true });
    const settled = () => limit.removeEventListener('abort', giveUp);
    const fail = (error: Error) => {
      settled();
      socket.destroy();
      reject(new Error(`${url.host}: ${error.message}`, { cause: error }));
    };
    sent.on('error', fail);
    sent.on('upgrade', (response, upgraded, head) => {
      settled();
      sent.off('error', fail);
      if (response.headers.upgrade?.toLowerCase() !== UPGRADE_TOKEN) {
        upgraded.destroy();
        reject(new Error(`${url.host}: switched to ${JSON.stringify(response.headers.upgrade)} and not to ${UPGRADE_TOKEN}`));
        return;
      }
      // Node aborts when HTTP/2 begins while the write of the request is under way, which it is for a moment after its bytes have left.
      const answer: Dialled = { kind: 'attached', socket: upgraded, head, ...replicaOf(response) };
      const dropped = () => reject(new Error(`${url.host}: the connection ended as the tunnel began`));
      upgraded.once('close', dropped);
      upgraded.on('error', () => undefined);
      const begin = () =>
        setImmediate(() => {
          upgraded.off('close', dropped);
          if (!upgraded.destroyed) resolve(answer);
        });
      if (sent.writableFinished) begin();
      else sent.once('finish', begin);
    });
    sent.on('response', (response) => {
      read(response).then((body) => {
        settled();
        socket.destroy();
        const { statusCode: code = 0 } = response;
        const after = retryAfterMs(response.headers['retry-after']);
        const where = replicaOf(response);
        if (code === 409 && where.replica !== '') resolve({ kind: 'duplicate', ...where, retryAfterMs: after });
        else resolve({ kind: 'answered', code, message: messageIn(body) || (response.statusMessage ?? ''), retryAfterMs: after });
      }, fail);
    });
    sent.end();
  });
}

function replicaOf({ headers }: IncomingMessage): { replica: string; replicas: number | undefined } {
  const [replica, replicas] = [headers[ATTACHED_HEADERS.replica], Number(headers[ATTACHED_HEADERS.replicas])];
  return {
    replica: typeof replica === 'string' ? replica : '',
    replicas: Number.isInteger(replicas) && replicas > 0 ? replicas : undefined,
  };
}

/** The beginning of the body: a Status, or the page of a proxy. */
async function read(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    length += chunk.length;
    if (length >= MAX_BODY) break;
  }
  return Buffer.concat(chunks).subarray(0, MAX_BODY).toString('utf8');
}

function messageIn(body: string): string {
  try {
    const status: unknown = JSON.parse(body);
    if (typeof status === 'object' && status !== null && 'message' in status && typeof status.message === 'string')
      return status.message.slice(0, 512);
  } catch {
    // Not a Status.
  }
  return body.replace(/\s+/g, ' ').trim().slice(0, 200);
}
