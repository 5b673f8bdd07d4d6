import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { authenticator } from '../../../src/hub/auth/authenticate.ts';
import { authorizer } from '../../../src/hub/auth/authorizer.ts';
import { isFrontProxy } from '../../../src/hub/auth/front-proxy.ts';
import { type RequestHeaderSource, watchRequestHeaderConfig } from '../../../src/hub/auth/request-header-source.ts';
import type { ReviewOptions } from '../../../src/hub/auth/review.ts';
import { tokenReviewer } from '../../../src/hub/auth/token-review.ts';
import type { ServingPair } from '../../../src/hub/certificates/serving.ts';
import type { RequestInfo } from '../../../src/hub/http/resource.ts';
import { listenerTlsOptions, renewConnections, updateSecureContext } from '../../../src/hub/http/tls.ts';
import { StatusError } from '../../../src/kube/status.ts';
import type { LoopbackApi } from './loopback-api.ts';

/** The hub's own parts on a real TLS listener: authenticate, authorise `create nodes/restart`, then the side effect, which is counted. */
export type HubListener = {
  port: number;
  server: Server;
  frontProxy: RequestHeaderSource;
  /** What the parts say for readyz; that the hub's readyz says it is for test/hub/http/app.test.ts to show. */
  problems(): Promise<string[]>;
  sideEffects(): number;
  close(): Promise<void>;
};

const RESTART: RequestInfo = {
  kind: 'resource',
  path: '/apis/infraops.michael.io/v1/nodes/n1/restart',
  verb: 'create',
  group: 'infraops.michael.io',
  version: 'v1',
  resource: 'nodes',
  name: 'n1',
  subresource: 'restart',
  rest: '',
};

export async function hubListener(api: LoopbackApi, serving: ServingPair, reviews: Partial<ReviewOptions> = {}): Promise<HubListener> {
  const stop = new AbortController();
  const frontProxy = watchRequestHeaderConfig({ client: api.client, signal: stop.signal });
  const tokens = tokenReviewer({ client: api.client, ...reviews });
  const rights = authorizer({ client: api.client, ...reviews });
  const authenticate = authenticator({ frontProxy, tokens });
  let sideEffects = 0;

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const caller = await authenticate(request);
      await rights.authorize(caller, RESTART);
      sideEffects++;
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(caller));
    } catch (error) {
      const status = error instanceof StatusError ? error.status : { code: 500, message: String(error) };
      response.writeHead(status.code, { 'content-type': 'application/json' }).end(JSON.stringify(status));
    }
  }

  const server = createServer({ ...listenerTlsOptions(serving, undefined), maxHeaderSize: 1 << 20, keepAliveTimeout: 95_000 });
  server.maxHeadersCount = 0;
  renewConnections(server, undefined, (socket) => isFrontProxy(socket, frontProxy.current()));
  server.on('request', (request, response) => {
    handle(request, response).catch(() => response.destroy());
  });
  frontProxy.onChange((config) => updateSecureContext(server, serving, config?.caBundle), stop.signal);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    server,
    frontProxy,
    sideEffects: () => sideEffects,
    async problems() {
      return [frontProxy.problem(), await tokens.check(), await rights.check()].filter((problem) => problem !== undefined);
    },
    async close() {
      stop.abort();
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

/** The ConfigMap that kube-apiserver publishes. */
export const AUTHENTICATION = { collection: '/api/v1/namespaces/kube-system/configmaps', name: 'extension-apiserver-authentication' };

export function authenticationConfigMap(caBundle: string, data: Record<string, string> = {}) {
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: AUTHENTICATION.name, namespace: 'kube-system' },
    data: {
      'requestheader-client-ca-file': caBundle,
      'requestheader-allowed-names': '["front-proxy-client"]',
      'requestheader-username-headers': '["X-Remote-User"]',
      'requestheader-uid-headers': '["X-Remote-Uid"]',
      'requestheader-group-headers': '["X-Remote-Group"]',
      'requestheader-extra-headers-prefix': '["X-Remote-Extra-"]',
      ...data,
    },
  };
}
