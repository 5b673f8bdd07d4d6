import { lookup } from 'node:dns/promises';
import { connect as connectTCP, isIP, type Socket } from 'node:net';
import {
  type ConnectionOptions,
  connect as connectTLS,
  createSecureContext,
  getCACertificates,
  type SecureContext,
  type TLSSocket,
} from 'node:tls';
import { isSpecialAddress, isSpecialName, namesAddress, namesHost, refused, type Target, type TargetPattern } from '../../tunnel/target.ts';
import { TargetError } from '../../tunnel/target-error.ts';
import { trustSystemCAs } from '../trust.ts';

const CONNECT_MS = 10_000;

/**
 * The addresses to dial for an allowed target, at least one, in the resolver's order. A name is resolved once and the very addresses that were looked at are dialled, so that a name that
 * changes its mind (DNS rebinding) leads nowhere. Throws TargetError 403 when the list does not allow any, 502 when the name has no address.
 */
export async function allowedAddresses(
  target: Target,
  patterns: readonly TargetPattern[],
  resolve: typeof lookup = lookup,
): Promise<string[]> {
  const { host, port } = target;
  const shown = `${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
  const hint = 'start the agent with --allow-target to allow it';
  if (isIP(host)) {
    if (namesAddress(patterns, host, port)) return [host];
    throw refused(shown, isSpecialAddress(host) ? 'it is a loopback, link-local or metadata address' : hint);
  }
  const named = namesHost(patterns, host, port);
  // Without a block in the list no address can be allowed: then the name is not even looked up.
  if (!named && !patterns.some((pattern) => pattern.block)) throw refused(shown, hint);
  let addresses: Array<{ address: string }>;
  try {
    addresses = await resolve(host, { all: true });
  } catch (error) {
    // Who may not reach a name does not learn either whether there is such a name.
    if (!named) throw refused(shown, hint);
    throw new TargetError(502, `the name of the target ${shown} cannot be resolved: ${codeOf(error)}`, { cause: error });
  }
  const good = addresses.filter(
    ({ address }) => namesAddress(patterns, address, port) || (named && !isSpecialAddress(address) && !isSpecialName(host)),
  );
  if (good.length > 0) return [...new Set(good.map(({ address }) => address))];
  throw refused(shown, named ? 'its name leads to a loopback, link-local or metadata address' : hint);
}

/** Connects to the first of the addresses that answers. Rejects with TargetError 502 (refused, unreachable) or 504 (no answer in time), by what the last one said. */
export function dial(name: string, addresses: readonly string[], port: number): Promise<Socket> {
  return firstOf(name, addresses, (address, ms) =>
    settled(name, connectTCP({ host: address, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: 30_000 }), 'connect', ms),
  );
}

/** The same with TLS, verified for `servername` (the host when it is a name) with the given CAs, or those that the system trusts. */
export function dialTLS(name: string, addresses: readonly string[], port: number, options: ConnectionOptions): Promise<TLSSocket> {
  return firstOf(name, addresses, async (address, ms) => {
    let socket: TLSSocket;
    try {
      socket = connectTLS({
        host: address,
        port,
        ALPNProtocols: ['http/1.1'],
        minVersion: 'TLSv1.2',
        ...options,
        rejectUnauthorized: true,
      });
    } catch (error) {
      throw new TargetError(502, `${name} cannot be reached: the certificate, key or CA for it is no good: ${codeOf(error)}`, {
        cause: error,
      });
    }
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 30_000);
    return await settled(name, socket, 'secureConnect', ms);
  });
}

/** An address that does not answer leaves time for those behind it; all together have CONNECT_MS. */
async function firstOf<S extends Socket>(
  name: string,
  addresses: readonly string[],
  attempt: (address: string, ms: number) => Promise<S>,
): Promise<S> {
  const end = performance.now() + CONNECT_MS;
  let last: unknown = new TargetError(502, `${name} has no address`);
  for (const [at, address] of addresses.entries()) {
    const left = end - performance.now();
    if (left <= 0) break;
    try {
      return await attempt(address, left / (addresses.length - at));
    } catch (error) {
      last = error;
    }
  }
  throw last;
}

let known: { ca: string; context: SecureContext } | undefined;

/** Trust for other targets: the system's CAs, and beside them those (PEM) that the operator gave. `pair` is a client certificate of the caller's, PEM. */
export function targetTrust(ca: string | undefined, pair?: { cert: string; key: string }): ConnectionOptions {
  trustSystemCAs();
  if (ca === undefined) return { ...pair };
  const all = () => [...getCACertificates('default'), ca];
  if (pair) return { ca: all(), ...pair };
  // Reading some hundred certificates takes longer than the connection.
  if (known?.ca !== ca) known = { ca, context: createSecureContext({ ca: all(), minVersion: 'TLSv1.2' }) };
  return { secureContext: known.context };
}

function settled<S extends Socket>(name: string, socket: S, event: 'connect' | 'secureConnect', ms: number): Promise<S> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new TargetError(504, `${name} did not accept a connection within ${CONNECT_MS / 1000} s`));
    }, ms);
    const onError = (error: Error) => {
      clearTimeout(timer);
      socket.destroy();
      reject(new TargetError(502, `${name} cannot be reached: ${codeOf(error)}`, { cause: error }));
    };
    socket.once('error', onError);
    socket.once(event, () => {
      clearTimeout(timer);
      socket.off('error', onError);
      resolve(socket);
    });
  });
}

/** `connection refused` and the like, or what is wrong with a certificate; never more than the system says. */
function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = 'code' in error ? String(error.code) : '';
  const words: Record<string, string> = {
    ECONNREFUSED: 'connection refused',
    ECONNRESET: 'connection reset',
    EHOSTUNREACH: 'no route to host',
    ENETUNREACH: 'network is unreachable',
    ENOTFOUND: 'no such host',
    EAI_AGAIN: 'the name server does not answer',
  };
  // OpenSSL's own text has lines and the paths of its sources.
  if (code.startsWith('ERR_OSSL_')) return 'reason' in error ? String(error.reason) : code;
  if (code.startsWith('ERR_SSL_')) return `the TLS handshake failed (${'reason' in error ? String(error.reason) : code})`;
  return words[code] ?? (code ? `${error.message} (${code})` : error.message);
}
