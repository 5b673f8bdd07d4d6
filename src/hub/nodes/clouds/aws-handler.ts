import type { HttpHandlerOptions, HttpRequest, HttpResponse, RequestHandler } from '@smithy/types';
import type { Account } from './definition.ts';
import type { Flight } from './flight.ts';
import { targetOf } from './flight.ts';
import { send } from './send.ts';

/**
 * The last link of the SDK's chain: takes the signed request and sends it by send.ts. The call's flight comes with the options of `client.send`;
 * a request without one is the SDK's own (STS for a role), has no side effect and gets a time limit here.
 */
export function awsRequestHandler(account: Account): RequestHandler<HttpRequest, HttpResponse, HttpHandlerOptions & { flight?: Flight }> & {
  updateHttpClientConfig(): void;
  httpHandlerConfigs(): Record<string, never>;
} {
  return {
    metadata: { handlerProtocol: 'http/1.1' },
    updateHttpClientConfig: () => undefined,
    httpHandlerConfigs: () => ({}),
    handle: async (request, options = {}) => {
      const flight = options.flight ?? {
        signal: AbortSignal.timeout(account.timeoutMilliseconds),
        beforeSend: undefined,
        sent: false,
        refused: undefined,
        failure: '',
      };
      const url = new URL(`${request.protocol}//${request.hostname}${request.port ? `:${request.port}` : ''}/`);
      const answer = await send(
        targetOf(url, account.ca),
        { method: request.method, path: pathOf(request), headers: request.headers, body: request.body ?? '' },
        flight,
      );
      return { response: { statusCode: answer.status, headers: answer.headers, body: answer.body } };
    },
  };
}

function pathOf(request: HttpRequest): string {
  const pairs = Object.entries(request.query ?? {}).flatMap(([name, value]) =>
    (Array.isArray(value) ? value : [value]).map((v) =>
      v === null ? encodeURIComponent(name) : `${encodeURIComponent(name)}=${encodeURIComponent(v)}`,
    ),
  );
  return request.path + (pairs.length > 0 ? `?${pairs.join('&')}` : '');
}
