import type { IncomingMessage, ServerResponse } from 'node:http';
import { Writable } from 'node:stream';
import { StatusError } from '../../kube/status.ts';
import { headerValue } from '../../tunnel/headers.ts';
import { TargetError } from '../../tunnel/target-error.ts';
import type { Answer, RawHeaders } from '../../tunnel/upstream.ts';
import { respondError } from '../http/respond.ts';
import { targetFailure } from './target-failure.ts';

/** Copies that kube-apiserver adds to every answer by itself: a second one would reach the client. */
const ADDED_BY_KUBE = /^(audit-id$|x-kubernetes-pf-)/;
const KUBE_CACHE_CONTROL = 'no-cache, private';

/** The headers of a target's answer as our caller gets them. */
export function answerHeaders(headers: RawHeaders, viaFrontProxy: boolean): string[] {
  const kept: string[] = [];
  for (let at = 0; at + 1 < headers.length; at += 2) {
    const name = headers[at] ?? '';
    const value = headers[at + 1] ?? '';
    if (name.startsWith('fairlead-')) continue;
    if (viaFrontProxy && (ADDED_BY_KUBE.test(name) || (name === 'cache-control' && value === KUBE_CACHE_CONTROL))) continue;
    kept.push(name, value);
  }
  return kept;
}

/** kube-apiserver's proxy would turn a redirect into 502 and lose the reason; and a caller must not be led elsewhere with its credentials. */
export function redirectError(code: number, headers: RawHeaders): StatusError | undefined {
  if (code < 300 || code > 399 || code === 304) return undefined;
  const where = headerValue(headers, 'location') === undefined ? '' : ' with a location';
  return targetFailure(new TargetError(502, `the target answered ${code}${where}: redirects are not followed and not passed on`));
}

/** An HTTP/1.1 answer out of an upstream's. `giveUp` ends the exchange when its answer must not be passed on. */
export function answerRequest(request: IncomingMessage, response: ServerResponse, viaFrontProxy: boolean, giveUp: () => void): Answer {
  response.sendDate = false;
  return {
    head(code, headers) {
      const redirect = redirectError(code, headers);
      if (redirect) {
        giveUp();
        respondError(request, response, redirect);
        // The body of a redirect is nobody's.
        return new Writable({ write: (_chunk, _encoding, done) => done() });
      }
      response.removeHeader('audit-id');
      response.writeHead(code, answerHeaders(headers, viaFrontProxy));
      // Head and first bytes go out together when they came together; a watch without events shows its head at once.
      setImmediate(() => {
        if (!response.destroyed && !response.writableEnded) response.flushHeaders();
      });
      return response;
    },
    trailers(headers) {
      const pairs = Array.from({ length: headers.length / 2 }, (_, at): [string, string] => [
        headers[2 * at] ?? '',
        headers[2 * at + 1] ?? '',
      ]);
      if (!response.destroyed) response.addTrailers(pairs);
    },
    fail(error) {
      if (response.destroyed) return;
      respondError(request, response, error instanceof StatusError ? error : targetFailure(error));
    },
  };
}
