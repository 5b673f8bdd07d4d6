import type { IncomingMessage } from 'node:http';
import { TLSSocket } from 'node:tls';
import { serviceUnavailable, unauthorized } from '../../kube/status.ts';
import { type Caller, withAuthenticatedGroup } from './caller.ts';
import { certificateUser } from './client-certificate.ts';
import { frontProxyUser } from './front-proxy.ts';
import type { RequestHeaderSource } from './request-header-source.ts';
import type { TokenReviewer } from './token-review.ts';

/** Finds out who sent a request. Throws StatusError 401 when nobody vouches, 503 or 429 when it cannot be found out. */
export type Authenticate = (request: Pick<IncomingMessage, 'socket' | 'rawHeaders' | 'headers'>) => Promise<Caller>;

const MAX_TOKEN = 64 * 1024;

/** The token of `Authorization: Bearer <token>`, as kube-apiserver reads it; undefined when there is none. */
function bearerToken(header: string | undefined): string | undefined {
  const [scheme = '', token = ''] = (header ?? '').trim().split(' ');
  // Tokens are visible ASCII; anything else cannot be one, and Node would have turned its bytes into other characters.
  return scheme.toLowerCase() === 'bearer' && /^[\x21-\x7e]+$/.test(token) && token.length <= MAX_TOKEN ? token : undefined;
}

/**
 * Front proxy first, then bearer token, then nobody. X-Remote-* headers of a connection that is not the front proxy's are never looked at.
 * While the front proxy's configuration is unknown, a request that would need it is answered 503 rather than 401: it may well be genuine.
 */
export function authenticator(options: { frontProxy: RequestHeaderSource; tokens: TokenReviewer }): Authenticate {
  const { frontProxy, tokens } = options;
  return async ({ socket, rawHeaders, headers }) => {
    if (!(socket instanceof TLSSocket)) throw unauthorized();
    const config = frontProxy.current();
    const proxied = frontProxyUser(socket, rawHeaders, config);
    if (proxied) return { user: withAuthenticatedGroup(proxied), via: 'frontProxy' };
    const token = bearerToken(headers.authorization);
    if (token !== undefined) {
      const user = await tokens.review(token);
      if (!user) throw unauthorized();
      return { user: withAuthenticatedGroup(user), via: 'token' };
    }
    const offeredCertificate = socket.getPeerX509Certificate() !== undefined;
    if (!config && offeredCertificate) throw serviceUnavailable('the configuration of the front proxy is not known yet; try again');
    throw unauthorized();
  };
}

/**
 * For the listener that users and agents reach without kube-apiserver: client certificate of the parent's CA, then bearer token, then nobody. X-Remote-* headers mean
 * nothing there.
 */
export function directAuthenticator(options: { config: RequestHeaderSource; tokens: TokenReviewer }): Authenticate {
  return async ({ socket, headers }) => {
    if (!(socket instanceof TLSSocket)) throw unauthorized();
    const certified = certificateUser(socket, options.config.current()?.clientCA?.anchors);
    if (certified) return { user: withAuthenticatedGroup(certified), via: 'certificate' };
    const token = bearerToken(headers.authorization);
    if (token === undefined) throw unauthorized();
    const user = await options.tokens.review(token);
    if (!user) throw unauthorized();
    return { user: withAuthenticatedGroup(user), via: 'token' };
  };
}
