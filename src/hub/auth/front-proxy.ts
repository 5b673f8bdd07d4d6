import type { X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { handshakeAnchors } from '../http/tls.ts';
import type { RequestHeaderConfig } from './request-header-config.ts';
import { requestHeaderIdentity } from './request-header-identity.ts';
import type { UserInfo } from './user.ts';

/** Valid from and to are milliseconds since the epoch. */
type Verdict = { anchors: readonly X509Certificate[]; validFrom: number; validTo: number; commonName: string | undefined };
const verdicts = new WeakMap<TLSSocket, Verdict>();

function judge(socket: TLSSocket, anchors: readonly X509Certificate[]): Verdict {
  const refused = { anchors, validFrom: Number.POSITIVE_INFINITY, validTo: Number.NEGATIVE_INFINITY, commonName: undefined };
  const leaf = socket.getPeerX509Certificate();
  if (!leaf) return refused;
  // Node does not hand out a client's intermediate certificates. A leaf that needs them is believed as long as all CAs that may have vouched for it are there.
  const direct = anchors.find((anchor) => leaf.checkIssued(anchor) && leaf.verify(anchor.publicKey));
  const known = new Set(anchors.map((anchor) => anchor.fingerprint256));
  const atHandshake = handshakeAnchors(socket);
  if (!direct && !(atHandshake?.size && [...atHandshake].every((anchor) => known.has(anchor)))) return refused;
  const path = direct ? [leaf, direct] : [leaf];
  // Several common names in one subject come as an array: nobody needs that, and which one counts is not said anywhere.
  const commonName: unknown = socket.getPeerCertificate().subject?.CN;
  return {
    anchors,
    validFrom: Math.max(...path.map((certificate) => certificate.validFromDate.getTime())),
    validTo: Math.min(...path.map((certificate) => certificate.validToDate.getTime())),
    commonName: typeof commonName === 'string' ? commonName : undefined,
  };
}

/**
 * Whether this connection belongs to the front proxy: its certificate chains to the request-header CA as it is now and its common name is allowed.
 * OpenSSL verified the certificate at the handshake (chain, purpose clientAuth, path length, dates) against the CA of that time; connections live for
 * hours, so it must lead to a CA of today, and the dates are looked at again.
 */
export function isFrontProxy(socket: TLSSocket, config: RequestHeaderConfig | undefined): boolean {
  if (!config) return false;
  const vouched = vouchedFor(socket, config.anchors);
  return (
    vouched !== undefined &&
    (config.allowedNames.length === 0 || (vouched.commonName !== undefined && config.allowedNames.includes(vouched.commonName)))
  );
}

/** What a connection's client certificate says, when it chains to one of these CAs and is valid now; undefined otherwise. `anchors` must be the same list as long as nothing changed. */
export function vouchedFor(socket: TLSSocket, anchors: readonly X509Certificate[]): { commonName: string | undefined } | undefined {
  if (!socket.authorized) return undefined;
  let verdict = verdicts.get(socket);
  if (verdict?.anchors !== anchors) {
    verdict = judge(socket, anchors);
    verdicts.set(socket, verdict);
  }
  const now = Date.now();
  return now < verdict.validFrom || now > verdict.validTo ? undefined : { commonName: verdict.commonName };
}

/** The caller that the front proxy names, as `rawHeaders` have it; undefined when the connection is not the front proxy's or names nobody. */
export function frontProxyUser(
  socket: TLSSocket,
  rawHeaders: readonly string[],
  config: RequestHeaderConfig | undefined,
): UserInfo | undefined {
  return config && isFrontProxy(socket, config) ? requestHeaderIdentity(rawHeaders, config) : undefined;
}
