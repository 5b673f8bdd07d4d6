import { lookup } from 'node:dns/promises';
import { connect as connectTCP, isIP, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTLS, rootCertificates, type TLSSocket } from 'node:tls';
import { isSpecialAddress, isSpecialName, namesAddress, namesHost, refused, type Target, type TargetPattern } from '../../tunnel/target.ts';
import { TargetError } from '../../tunnel/target-error.ts';

const CONNECT_MS = 10_000;

/**
 * The address to dial for an allowed target. A name is resolved once and the very address that was looked at is dialled, so that a name that changes its mind
 * (DNS rebinding) leads nowhere. Throws TargetError 403 when the list does not allow it, 502 when the name has no address.
 */
export async function allowedAddress(target: Target, patterns: readonly TargetPattern[], resolve: typeof lookup = lookup): Promise<string> {
  const { host, port } = target;
  const shown = `${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
  const hint = 'start the agent with --allow-target to allow it';
  if (isIP(host)) {
    if (namesAddress(patterns, host, port)) return host;
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
  const good = addresses.find(
    ({ address }) => namesAddress(patterns, address, port) || (named && !isSpecialAddress(address) && !isSpecialName(host)),
  );
  if (good) return good.address;
  throw refused(shown, named ? 'its name leads to a loopback, link-local or metadata address' : hint);
}

/** Connects to an address. Rejects with TargetError 502 (refused, unreachable) or 504 (no answer in time). */
export function dial(name: string, address: string, port: number): Promise<Socket> {
  return settled(name, connectTCP({ host: address, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: 30_000 }), 'connect');
}

/** The same with TLS, verified for `servername` (the host when it is a name) with the given CAs. */
export function dialTLS(name: string, address: string, port: number, options: ConnectionOptions): Promise<TLSSocket> {
  const socket = connectTLS({
    host: address,
    port,
    ALPNProtocols: ['http/1.1'],
    minVersion: 'TLSv1.2',
    ...options,
    rejectUnauthorized: true,
  });
  socket.setNoDelay(true);
  socket.setKeepAlive(true, 30_000);
  return settled(name, socket, 'secureConnect');
}

/** CAs of other targets: those that Node brings and the ones that the operator gave. */
export const withSystemCAs = (ca: string | undefined): string[] | undefined => (ca === undefined ? undefined : [...rootCertificates, ca]);

function settled<S extends Socket>(name: string, socket: S, event: 'connect' | 'secureConnect'): Promise<S> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new TargetError(504, `${name} did not accept a connection within ${CONNECT_MS / 1000} s`));
    }, CONNECT_MS);
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
  if (code.startsWith('ERR_SSL_')) return `the TLS handshake failed (${'reason' in error ? String(error.reason) : code})`;
  return words[code] ?? (code ? `${error.message} (${code})` : error.message);
}
