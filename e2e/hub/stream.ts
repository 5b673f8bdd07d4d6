import type { ClientRequest, IncomingHttpHeaders } from 'node:http';
import { type RequestOptions, request } from 'node:https';
import { createInterface } from 'node:readline';
import { waitFor } from '../lab/wait.ts';
import type { HubEnv } from './env.ts';

/** An answer that goes on: a watch or a followed log, line by line. */
export type Stream = {
  status: number;
  headers: IncomingHttpHeaders;
  lines: readonly string[];
  /** True when the server ended it. */
  ended(): boolean;
  /** True when the connection broke before its end. */
  broken(): boolean;
  close(): void;
};

/** GETs `path` with a request of its own; resolves when the answer begins. Without `to` as admin through kube-apiserver. */
export async function openStream(
  env: HubEnv,
  path: string,
  to: { server?: string; options?: RequestOptions; headers?: Record<string, string> } = {},
): Promise<Stream> {
  const { certificate, key } = env.lab.clientCertificate({ user: 'stream', groups: ['system:masters'] });
  const lines: string[] = [];
  let ended = false;
  let broken = false;
  return await new Promise((resolve, reject) => {
    const options: RequestOptions = { agent: false, ...(to.options ?? { ca: env.lab.ca, cert: certificate, key }) };
    const outgoing: ClientRequest = request(
      new URL(path, to.server ?? env.lab.apiServerURL),
      { ...options, headers: { ...to.headers } },
      (answer) => {
        answer.on('error', () => undefined);
        answer.once('end', () => {
          ended = true;
        });
        answer.once('close', () => {
          broken = !answer.complete;
        });
        // readline tells the errors of its input once more.
        createInterface({ input: answer })
          .on('line', (line) => lines.push(line))
          .on('error', () => undefined);
        resolve({
          status: answer.statusCode ?? 0,
          headers: answer.headers,
          lines,
          ended: () => ended,
          broken: () => broken,
          close: () => outgoing.destroy(),
        });
      },
    );
    outgoing.on('error', reject);
    outgoing.end();
  });
}

export type WatchEvent = {
  type: string;
  object: {
    kind: string;
    code?: number;
    reason?: string;
    metadata: { name?: string; resourceVersion?: string; annotations?: Record<string, string> };
    spec?: Record<string, unknown>;
    status?: Record<string, unknown>;
    columnDefinitions?: { name: string }[] | null;
    rows?: { cells: unknown[]; object: { metadata: { name?: string } } }[];
  };
};

export const events = (stream: Stream): WatchEvent[] => stream.lines.map((line) => JSON.parse(line) as WatchEvent);

/** Resolves with the first event that `wanted` accepts. */
export async function nextEvent(stream: Stream, what: string, wanted: (event: WatchEvent) => boolean): Promise<WatchEvent> {
  return await waitFor(() => events(stream).find(wanted), { what: `the watch to tell ${what}` });
}
