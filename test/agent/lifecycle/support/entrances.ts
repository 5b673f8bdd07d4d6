import { request as httpRequest } from 'node:http';
import type { OutgoingHttpHeaders } from 'node:http2';
import { join } from 'node:path';
import { agentApi } from '../../../../src/agent/api/agent-api.ts';
import { agentAnswers } from '../../../../src/agent/api/answers.ts';
import { healthServer } from '../../../../src/agent/api/health-server.ts';
import { socketServer } from '../../../../src/agent/api/socket-server.ts';
import { apiStreams } from '../../../../src/agent/api/stream.ts';
import { lifecycleApi } from '../../../../src/agent/lifecycle/api/rest.ts';
import { lifecycleMetrics } from '../../../../src/agent/lifecycle/metrics.ts';
import { encodeCaller } from '../../../../src/tunnel/caller.ts';
import { AGENT_AUTHORITY } from '../../../../src/tunnel/protocol.ts';
import type { cleanUp } from '../../../support/clean-up.ts';
import { agentEnd } from '../../../tunnel/agent-end.ts';
import { type Sandbox, sandbox } from './sandbox.ts';

type Clean = ReturnType<typeof cleanUp>;
export type Answer = { code: number; type: string; body: string };
export type Ask = (method: string, path: string, body?: unknown, headers?: Record<string, string>) => Promise<Answer>;

/** A lifecycle in a sandbox behind all three entrances of the agent: the Unix socket, a real tunnel, and the open port for health. */
export async function entrances(clean: Clean) {
  const box: Sandbox = await sandbox(clean);
  const lifecycle = await box.start();
  const stopping = new AbortController();
  const onError = (error: unknown) => box.errors.push(error);
  box.registry.clear();
  const api = lifecycleApi({
    service: lifecycle.service,
    metrics: lifecycleMetrics(box.registry),
    cluster: () => ({ clusterType: lifecycle.clusterType(), version: lifecycle.version() }),
    signal: stopping.signal,
    onError,
  });
  const answers = agentAnswers({ registry: box.registry, unready: () => undefined });
  const all = agentApi(answers, () => api);
  const socketPath = join(box.root, 'run/agent.sock');
  const server = await socketServer(socketPath, all, onError);
  clean.after(() => server.close());
  const health = await healthServer(answers, { address: '127.0.0.1', port: 0, onError });
  clean.after(() => health.close());
  const { tunnel } = await agentEnd(clean, { agentAPI: apiStreams(all, answers, onError) });

  const socket: Ask = (method, path, body, headers = {}) => plainRequest({ socketPath }, method, path, body, headers);
  const port: Ask = (method, path, body, headers = {}) =>
    plainRequest({ host: '127.0.0.1', port: health.port }, method, path, body, headers);
  const through: Ask = (method, path, body, headers = {}) =>
    new Promise((resolve, reject) => {
      const caller = encodeCaller({ name: 'jane', uid: '', groups: ['ops'], extra: {} });
      const pairs: OutgoingHttpHeaders = { ':method': method, ':path': path, ':authority': AGENT_AUTHORITY, ':scheme': 'https' };
      for (let at = 0; at < caller.length; at += 2) pairs[caller[at] ?? ''] = caller[at + 1];
      const bytes = bytesOf(body);
      const stream = tunnel.session.request(
        { ...pairs, 'content-type': 'application/json', ...headers },
        { endStream: bytes === undefined },
      );
      let code = 0;
      let type = '';
      let text = '';
      stream.setEncoding('utf8');
      stream.on('response', (head) => {
        code = Number(head[':status']);
        type = String(head['content-type'] ?? '');
      });
      stream.on('data', (chunk: string) => {
        text += chunk;
      });
      stream.on('end', () => resolve({ code, type, body: text }));
      stream.on('error', reject);
      if (bytes !== undefined) stream.end(bytes);
    });
  return { box, lifecycle, socketPath, socket, port, through, tunnel, stopping };
}

function bytesOf(body: unknown): string | Buffer | undefined {
  return body === undefined || typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body);
}

function plainRequest(
  to: { socketPath: string } | { host: string; port: number },
  method: string,
  path: string,
  body: unknown,
  headers: Record<string, string>,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const bytes = bytesOf(body);
    const request = httpRequest({
      ...to,
      method,
      path,
      agent: false,
      headers: { ...(bytes !== undefined && { 'content-type': 'application/json' }), ...headers },
    });
    request.on('response', (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () => resolve({ code: response.statusCode ?? 0, type: response.headers['content-type'] ?? '', body: text }));
    });
    request.on('error', reject);
    request.end(bytes);
  });
}
