import type { IncomingHttpHeaders } from 'node:http';
import { Agent, type RequestOptions, request } from 'node:https';
import type { UserCredentials } from './kubeconfig.ts';

export type ApiResponse = { status: number; headers: IncomingHttpHeaders; text: string };

export type ApiRequest = {
  /** Sent as JSON, unless it is a string, which is sent as it is. */
  body?: unknown;
  /** Default application/json; see `patch`. */
  contentType?: string;
  headers?: Record<string, string>;
  signal?: AbortSignal;
};

/** A bare HTTPS client of one API server as one user: what a test sends is what goes on the wire. */
export type ApiClient = {
  /** Any method, any path with its query; resolves for every HTTP status. */
  request(method: string, path: string, options?: ApiRequest): Promise<ApiResponse>;
  /** Resolves with the parsed body of a 2xx answer, rejects with an ApiError otherwise. */
  json<T>(method: string, path: string, options?: ApiRequest): Promise<T>;
  close(): void;
};

export class ApiError extends Error {
  readonly status: number;
  constructor(message: string, status: number) {
    super(message);
    this.name = 'ApiError';
    this.status = status;
  }
}

/** Content types of PATCH. */
export const patch = {
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
  json: 'application/json-patch+json',
  apply: 'application/apply-patch+yaml',
} as const;

/** `ca` is PEM. The server's certificate is always verified; `servername` is the name to verify when it is not the URL's host. */
export function createApiClient(options: {
  server: string;
  ca: string;
  credentials?: UserCredentials;
  servername?: string;
  maxSockets?: number;
}): ApiClient {
  const { server, ca, credentials, servername, maxSockets = 64 } = options;
  const certificate = credentials && 'certificate' in credentials ? { cert: credentials.certificate, key: credentials.key } : {};
  const authorization: Record<string, string> =
    credentials && 'token' in credentials ? { authorization: `Bearer ${credentials.token}` } : {};
  const agent = new Agent({ keepAlive: true, maxSockets, ca, ...certificate, ...(servername === undefined ? {} : { servername }) });

  function send(method: string, path: string, { body, contentType, headers, signal }: ApiRequest = {}): Promise<ApiResponse> {
    const payload = body === undefined ? undefined : Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
    const requestOptions: RequestOptions = {
      method,
      agent,
      headers: {
        accept: 'application/json',
        ...authorization,
        ...(payload ? { 'content-type': contentType ?? 'application/json', 'content-length': String(payload.length) } : {}),
        ...headers,
      },
      ...(signal ? { signal } : {}),
    };
    return new Promise((resolve, reject) => {
      const outgoing = request(new URL(path, server), requestOptions, (incoming) => {
        const chunks: Buffer[] = [];
        incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
        incoming.once('error', reject);
        incoming.once('end', () =>
          resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, text: Buffer.concat(chunks).toString('utf8') }),
        );
      });
      outgoing.once('error', reject);
      outgoing.end(payload);
    });
  }

  return {
    request: send,
    async json<T>(method: string, path: string, options?: ApiRequest): Promise<T> {
      const answer = await send(method, path, options);
      if (answer.status < 200 || answer.status > 299) {
        throw new ApiError(`${method} ${path}: ${answer.status} ${answer.text.slice(0, 500)}`, answer.status);
      }
      return JSON.parse(answer.text) as T;
    },
    close: () => agent.destroy(),
  };
}
