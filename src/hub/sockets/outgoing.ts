import { badRequest, forbidden } from '../../kube/status.ts';
import type { Caller, ChildCredential } from '../../tunnel/caller.ts';
import { endToEnd } from '../../tunnel/headers.ts';
import type { RawHeaders } from '../../tunnel/upstream.ts';
import { isWithheld } from '../../tunnel/withheld.ts';
import type { UserInfo } from '../auth/user.ts';

/** Said by whoever calls us; only the front proxy is believed. */
const FORWARDED = /^(x-forwarded-|forwarded$|x-real-ip$)/;

/**
 * The headers of a request that go into the tunnel. kube-apiserver's transport asks for gzip when the client did not, and unpacks it again: that header is the last one
 * (Go sends what its transport adds behind the sorted rest), and is left out, so that nothing makes the child compress for nobody.
 */
export function outgoingHeaders(raw: RawHeaders, from: { viaFrontProxy: boolean; peer: string | undefined }): string[] {
  const added = from.viaFrontProxy && raw.at(-2)?.toLowerCase() === 'accept-encoding' && raw.at(-1) === 'gzip';
  const headers = endToEnd(added ? raw.slice(0, -2) : raw, (name) => {
    if (isWithheld(name)) return true;
    if (!FORWARDED.test(name)) return false;
    return !(from.viaFrontProxy && name === 'x-forwarded-for');
  });
  if (!from.viaFrontProxy && from.peer) headers.push('x-forwarded-for', from.peer);
  return headers;
}

const TOKEN = 'clusternet-token';
const CERTIFICATE = 'clusternet-certificate';
const PRIVATE_KEY = 'clusternet-privatekey';

/**
 * Who the child is told about. A credential of the child in clusternet's impersonation extras is taken out of them; kube-apiserver has checked before that the
 * caller may impersonate with such extras. Throws StatusError 400 when the extras make no sense, 403 for a group without a name.
 */
export function callerInChild(user: UserInfo): Caller {
  const { [TOKEN]: tokens, [CERTIFICATE]: certificates, [PRIVATE_KEY]: keys, ...extra } = user.extra;
  if (user.groups.includes('')) throw forbidden({}, 'the caller cannot be mapped into the child: one of its groups has no name');
  const caller = { name: user.name, uid: user.uid, groups: user.groups, extra };
  const credential = childCredential(tokens?.[0], certificates?.[0], keys?.[0]);
  return credential ? { ...caller, credential } : caller;
}

function childCredential(token: string | undefined, certificate: string | undefined, key: string | undefined): ChildCredential | undefined {
  if (token !== undefined) {
    if (!/^[\x21-\x7e]{1,65536}$/.test(token)) throw badRequest(`the extra field ${TOKEN} is no bearer token`);
    return { token };
  }
  if (certificate === undefined && key === undefined) return undefined;
  return { certificate: pem(certificate, CERTIFICATE), privateKey: pem(key, PRIVATE_KEY) };
}

function pem(base64: string | undefined, field: string): string {
  const text = Buffer.from(base64 ?? '', 'base64').toString('utf8');
  if (!text.includes('-----BEGIN ')) throw badRequest(`the extra field ${field} is not base64 of PEM`);
  return text;
}
