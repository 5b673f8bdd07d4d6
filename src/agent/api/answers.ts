import type { Registry } from 'prom-client';
import { VERSION } from '../../kube/version.ts';

/** An answer of the agent's own API, whole. */
export type ApiAnswer = { code: number; contentType: string; body: string };

/** Answers a request to the agent itself; undefined when there is no such path. */
export type AgentAnswers = (method: string, path: string) => Promise<ApiAnswer>;

/** `unready` says what is missing, undefined when nothing is. */
export function agentAnswers(options: { registry: Registry; unready: () => string | undefined }): AgentAnswers {
  const text = (code: number, body: string): ApiAnswer => ({ code, contentType: 'text/plain; charset=utf-8', body });
  const json = (code: number, body: object): ApiAnswer => ({ code, contentType: 'application/json', body: `${JSON.stringify(body)}\n` });
  const failure = (code: number, reason: string, message: string) =>
    json(code, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, code });

  return async (method, target) => {
    const path = target.split('?', 1)[0] ?? '';
    const known = ['/healthz', '/livez', '/readyz', '/metrics', '/version'];
    if (!known.includes(path)) return failure(404, 'NotFound', `the agent has no ${path.slice(0, 200)}`);
    if (method !== 'GET' && method !== 'HEAD') return failure(405, 'MethodNotAllowed', `${path} is only read`);
    if (path === '/metrics') return { code: 200, contentType: options.registry.contentType, body: await options.registry.metrics() };
    if (path === '/version')
      return json(200, { gitVersion: `v${VERSION}`, platform: `${process.platform}/${process.arch}`, compiler: process.version });
    const problem = path === '/readyz' ? options.unready() : undefined;
    return problem === undefined ? text(200, 'ok') : text(500, `not ready: ${problem}\n`);
  };
}
