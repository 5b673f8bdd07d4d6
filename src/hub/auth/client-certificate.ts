import type { X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { vouchedFor } from './front-proxy.ts';
import type { UserInfo } from './user.ts';

/**
 * The user that a client certificate names, as kube-apiserver reads it: the common name is the user, each organisation a group
 * (https://kubernetes.io/docs/reference/access-authn-authz/authentication/#x509-client-certificates). undefined when no CA of `anchors` vouches, or there is no name.
 */
export function certificateUser(socket: TLSSocket, anchors: readonly X509Certificate[] | undefined): UserInfo | undefined {
  const name = anchors && vouchedFor(socket, anchors)?.commonName;
  if (!name) return undefined;
  // A connection's certificate stays the same (renegotiation is off), and taking it apart costs as much as the rest of a request.
  let groups = groupsOf.get(socket);
  if (!groups) {
    groups = organisations(socket);
    groupsOf.set(socket, groups);
  }
  return { name, uid: '', groups, extra: {} };
}

const groupsOf = new WeakMap<TLSSocket, string[]>();

function organisations(socket: TLSSocket): string[] {
  const given: unknown = socket.getPeerCertificate().subject?.O;
  return (Array.isArray(given) ? given : [given]).filter((group): group is string => typeof group === 'string' && group !== '');
}
