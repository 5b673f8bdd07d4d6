import { finished } from 'node:stream/promises';
import { badRequest } from '../../kube/status.ts';
import { parseAccept } from '../http/negotiate.ts';
import type { Handler, Reply } from '../http/resource.ts';
import { kubeconfigOf } from './answers.ts';
import type { AgentCalls } from './call.ts';
import { API_VERSION } from './schema.ts';

const COMMON = { 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' };

/** Hands an agent's text on as it comes. A text that was cut ends as a cut, never as an end. */
function passText(calls: AgentCalls, path: (query: URLSearchParams) => string, type: string): Handler {
  return async (context) => {
    const { answer } = await calls.open(context, { method: 'GET', path: path(context.query), accept: 'text/plain' });
    return {
      async stream(request, response) {
        if (request.method === 'HEAD') {
          answer.body.destroy();
          response.writeHead(200, { ...COMMON, 'content-type': type }).end();
          return;
        }
        response.writeHead(200, { ...COMMON, 'content-type': type });
        response.flushHeaders();
        answer.body.once('error', () => response.destroy());
        response.once('close', () => answer.body.destroy());
        answer.body.pipe(response);
        await finished(response).catch(() => undefined);
      },
    };
  };
}

/** GET clusters/<c>/log: what its operations wrote, line by line; `follow=true` goes on as it comes. */
export const clusterLog = (calls: AgentCalls): Handler =>
  passText(calls, (query) => `/api/v1alpha1/cluster/log${isFollow(query) ? '?follow=true' : ''}`, 'text/plain; charset=utf-8');

/** GET clusters/<c>/metrics: the agent's metrics for Prometheus. */
export const clusterMetrics = (calls: AgentCalls): Handler => passText(calls, () => '/metrics', 'text/plain; version=0.0.4; charset=utf-8');

function isFollow(query: URLSearchParams): boolean {
  const value = query.get('follow');
  const text = value?.toLowerCase();
  if (text === undefined || text === 'false' || text === '0') return false;
  if (text === '' || text === 'true' || text === '1') return true;
  throw badRequest(`follow: must be true or false, not ${JSON.stringify(value?.slice(0, 32))}`);
}

const MAX_KUBECONFIG = 1024 * 1024;

/** GET clusters/<c>/kubeconfig: as YAML, or as an object for those who take nothing but JSON. */
export function clusterKubeconfig(calls: AgentCalls): Handler {
  return async (context): Promise<Reply> => {
    const json = wantsJson(context.headers.accept);
    const { cluster, value } = await calls.object(context, { method: 'GET', path: '/api/v1alpha1/kubeconfig' }, MAX_KUBECONFIG);
    const contents = kubeconfigOf(cluster.name, value);
    const text = json
      ? `${JSON.stringify({ apiVersion: API_VERSION, kind: 'ClusterKubeconfig', metadata: { name: cluster.name }, contents })}\n`
      : contents;
    return {
      async stream(request, response) {
        const type = json ? 'application/json' : 'application/yaml';
        response.writeHead(200, { ...COMMON, 'content-type': type, 'content-length': Buffer.byteLength(text) });
        response.end(request.method === 'HEAD' ? undefined : text);
      },
    };
  };
}

/** kubectl asks for JSON or anything, and is to get the file itself. */
function wantsJson(accept: string | undefined): boolean {
  const clauses = parseAccept(accept ?? '');
  return clauses.length > 0 && clauses.every(({ type, subtype }) => type === 'application' && subtype === 'json');
}
