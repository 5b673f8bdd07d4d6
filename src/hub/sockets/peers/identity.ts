import type { X509Certificate } from 'node:crypto';
import { isValidAt, parseBundle } from '../../certificates/bundle.ts';

/** ALPN protocol between replicas; both sides insist on it. */
export const PEER_PROTOCOL = 'fairlead-peer/1';

const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';

const prefix = (namespace: string) => `fairlead://${encodeURIComponent(namespace)}/hub/`;

/** The name of a replica in its certificate: the one URI among its alternative names. */
export const peerUri = (namespace: string, identity: string): string =>
  // Node quotes names with an apostrophe when it reads a certificate.
  `${prefix(namespace)}${encodeURIComponent(identity).replaceAll("'", '%27')}`;

/** Whether one of the bundle (PEM) signed the certificate. */
export function isFromAuthority(certificate: X509Certificate, caBundle: string): boolean {
  return parseBundle(caBundle).some((ca) => ca.ca && certificate.checkIssued(ca) && certificate.verify(ca.publicKey));
}

/**
 * The identity of the replica that a certificate names. It must be signed by a CA of the bundle, be valid now, be no CA itself, be meant for both ends of a
 * connection, and have the URI of a replica of this namespace as its only alternative name. Throws an Error that says what is wrong.
 */
export function peerIdentity(certificate: X509Certificate | undefined, namespace: string, caBundle: string, now = new Date()): string {
  if (!certificate) throw new Error('no certificate');
  if (certificate.ca || !isFromAuthority(certificate, caBundle)) throw new Error("a certificate that is not of the hub's own authority");
  if (!isValidAt(certificate, now)) throw new Error('a certificate that is not valid now');
  // Node calls the extended key usage `keyUsage`.
  const usages = certificate.keyUsage ?? [];
  if (!usages.includes(CLIENT_AUTH) || !usages.includes(SERVER_AUTH)) throw new Error('a certificate that is not meant for both ends');
  const start = `URI:${prefix(namespace)}`;
  const name = certificate.subjectAltName ?? '';
  if (!name.startsWith(start)) throw new Error('a certificate of no replica of this namespace');
  const identity = name.slice(start.length);
  // What encodeURIComponent leaves: no comma, no quote and no slash, so there is no second name behind it.
  if (!/^[A-Za-z0-9_.!~*()%-]+$/.test(identity)) throw new Error('a certificate with other names');
  return decodeURIComponent(identity);
}
