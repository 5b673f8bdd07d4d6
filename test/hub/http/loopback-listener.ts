import type { RequestListener } from 'node:http';
import { request } from 'node:https';
import { type ConnectionOptions, connect } from 'node:tls';
import { pairHolder } from '../../../src/hub/certificates/pair-holder.ts';
import { type ListenerOptions, listen } from '../../../src/hub/http/listener.ts';
import type { cleanUp } from '../../support/clean-up.ts';
import { makeCa, makeServer } from '../auth/pki.ts';

type CleanUp = ReturnType<typeof cleanUp>;

export const ca = makeCa('server-ca');
const pair = makeServer(ca);

/** A listener that is closed after the test. */
export async function setUp(
  cleaning: CleanUp,
  app: RequestListener = (_request, response) => void response.end('ok'),
  limits: ListenerOptions['limits'] = {},
  upgrades?: ListenerOptions['upgrades'],
) {
  const errors: unknown[] = [];
  const certificate = pairHolder(pair);
  const listener = await listen(app, {
    address: '127.0.0.1',
    port: 0,
    certificate,
    requestHeaderCA: () => undefined,
    onRequestHeaderCA: () => undefined,
    isTrusted: () => false,
    signal: cleaning.signal(),
    onError: (error) => errors.push(error),
    limits,
    ...(upgrades && { upgrades }),
  });
  cleaning.after(() => listener.close(0));
  return { listener, port: listener.port, errors, certificate };
}

/** A TLS connection to it. */
export const secure = (port: number, more: ConnectionOptions = {}) =>
  connect({ host: '127.0.0.1', port, ca: ca.cert, servername: 'localhost', ...more });

/** The status of one request, on a connection of its own. */
export function get(port: number, path = '/'): Promise<number> {
  return new Promise((resolve, reject) => {
    request({ host: '127.0.0.1', port, path, ca: ca.cert, servername: 'localhost', agent: false }, (response) => {
      response.resume().on('end', () => resolve(response.statusCode ?? 0));
    })
      .on('error', reject)
      .end();
  });
}
