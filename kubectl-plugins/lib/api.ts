import type { IncomingMessage } from 'node:http';
import type { KubeRequest } from '../../src/kube/client.ts';
import { KubeUnreachableError } from '../../src/kube/errors.ts';
import type { Connection } from './connection.ts';

export const API = '/apis/infraops.michael.io/v1';
/** Content type that asks for a Table, and for plain JSON where the server has none. */
export const AS_TABLE = 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json';

/** Calls to one API server, with kubectl's habits: warnings are shown, --request-timeout counts. */
export type Api = {
  /** The parsed answer and its HTTP code. Throws KubeError or KubeUnreachableError. */
  ask<T>(request: KubeRequest): Promise<{ code: number; body: T }>;
  /** The answer as it arrives; without a time limit after its headers. */
  open(request: KubeRequest): Promise<IncomingMessage>;
  /** How many warnings the server sent so far. */
  warnings(): number;
  close(): void;
};

/** kube-apiserver itself ends every request that is not a watch after 60 s, so that longer waiting brings nothing. */
const SERVER_LIMIT_MS = 65_000;
/** Far above the largest list (5,000 nodes are 4 MB), far below what would hurt. */
const LARGEST_ANSWER = 256 * 1024 * 1024;

/** `timeoutMs` is --request-timeout, 0 for none; `warn` gets each warning once. */
export function api(connection: Connection, timeoutMs: number, warn: (text: string) => void): Api {
  const limit = timeoutMs > 0 ? Math.min(timeoutMs, 2 ** 31 - 1) : SERVER_LIMIT_MS;
  const seen = new Set<string>();

  async function open(request: KubeRequest): Promise<IncomingMessage> {
    const response = await connection.open({ timeoutMs: limit, ...request });
    for (const text of warningsOf(response.headers.warning)) {
      if (seen.has(text)) continue;
      seen.add(text);
      warn(text);
    }
    return response;
  }

  return {
    open,
    warnings: () => seen.size,
    close: () => connection.close(),
    async ask<T>(request: KubeRequest) {
      const response = await open(request);
      const text = await textOf(response, limit, request);
      try {
        return { code: response.statusCode ?? 0, body: JSON.parse(text) as T };
      } catch (error) {
        throw new KubeUnreachableError(`${connection.server}${request.path}: the answer is not JSON`, true, error);
      }
    },
  };
}

async function textOf(response: IncomingMessage, limit: number, request: KubeRequest): Promise<string> {
  const timer = setTimeout(() => response.destroy(new Error('the answer stopped midway')), limit);
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of response) {
      size += (chunk as Buffer).length;
      if (size > LARGEST_ANSWER) throw new Error('the answer is too large');
      chunks.push(chunk as Buffer);
    }
  } catch (error) {
    request.signal?.throwIfAborted();
    throw new KubeUnreachableError(`${request.path}: ${error instanceof Error ? error.message : String(error)}`, true, error);
  } finally {
    clearTimeout(timer);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** The texts of `Warning: 299 - "text"` headers, of which Node joins several with commas. */
function warningsOf(header: string | undefined): string[] {
  return [...(header ?? '').matchAll(/\d{3} \S+ "((?:[^"\\]|\\.)*)"/g)].map(([, text = '']) => text.replace(/\\(.)/g, '$1'));
}
