import { CALLER_HEADERS } from './protocol.ts';
import type { RawHeaders } from './upstream.ts';

/** Who calls, as the parent knows it, and the credential of the child when the caller brought one. */
export type Caller = {
  name: string;
  uid: string;
  groups: readonly string[];
  extra: Readonly<Record<string, readonly string[]>>;
  credential?: ChildCredential;
};

/** A bearer token, or a client certificate and its key (PEM). */
export type ChildCredential = { token: string } | { certificate: string; privateKey: string };

/** Prefix of every header that speaks of the caller: never taken from, nor shown to, anybody outside of the tunnel. */
export const CALLER_PREFIX = 'fairlead-';

/** HPACK implementations refuse values of more than 64 KiB; lists go over several headers. */
const MAX_VALUE = 32_768;

/** A list as header values: items percent-encoded (so they hold no comma and only ASCII) and joined by commas. */
function encodeList(name: string, items: readonly string[], into: string[]): void {
  let line = '';
  for (const item of items) {
    const encoded = encodeURIComponent(item.toWellFormed());
    if (line !== '' && line.length + encoded.length + 1 > MAX_VALUE) {
      into.push(name, line);
      line = '';
    }
    line = line === '' ? encoded : `${line},${encoded}`;
  }
  if (line !== '') into.push(name, line);
}

/** The caller as headers of a request in the tunnel. An empty item in a list would be lost, and is refused: throws an Error. */
export function encodeCaller({ name, uid, groups, extra, credential }: Caller): string[] {
  const headers: string[] = [CALLER_HEADERS.user, encodeURIComponent(name.toWellFormed())];
  if (uid !== '') headers.push(CALLER_HEADERS.uid, encodeURIComponent(uid.toWellFormed()));
  if (groups.includes('')) throw new Error('a group without a name');
  encodeList(CALLER_HEADERS.group, groups, headers);
  for (const [key, values] of Object.entries(extra)) {
    // Extra keys may hold any character; a header name may not. `%` is a character of header names.
    const field = `${CALLER_HEADERS.extraPrefix}${encodeURIComponent(key.toWellFormed())
      .toLowerCase()
      .replaceAll(/[()]/g, (c) => `%${c.charCodeAt(0).toString(16)}`)}`;
    encodeList(
      field,
      values.map((value) => value || ' '),
      headers,
    );
  }
  if (credential && 'token' in credential) headers.push(CALLER_HEADERS.token, encodeURIComponent(credential.token));
  else if (credential) {
    headers.push(CALLER_HEADERS.certificate, encodeURIComponent(credential.certificate));
    headers.push(CALLER_HEADERS.privateKey, encodeURIComponent(credential.privateKey));
  }
  return headers;
}

/** Headers that may come once. */
const SINGLE: ReadonlySet<string> = new Set([
  CALLER_HEADERS.user,
  CALLER_HEADERS.uid,
  CALLER_HEADERS.token,
  CALLER_HEADERS.certificate,
  CALLER_HEADERS.privateKey,
]);

/** Some put a space behind the comma when they join headers. An empty item is never sent. */
function decodeList(value: string): string[] {
  const items = value.split(/, ?/).map(decodeURIComponent);
  if (items.includes('')) throw new Error('an empty item in a list');
  return items;
}

/** The caller that the headers of a request in the tunnel name. Throws an Error when they name nobody or are malformed: nothing may then be sent on. */
export function decodeCaller(headers: RawHeaders): Caller {
  const caller = { name: '', uid: '', groups: [] as string[], extra: {} as Record<string, string[]> };
  let token: string | undefined;
  let certificate: string | undefined;
  let privateKey: string | undefined;
  const seen = new Set<string>();
  for (let at = 0; at + 1 < headers.length; at += 2) {
    const name = headers[at] ?? '';
    if (!name.startsWith(CALLER_PREFIX)) continue;
    const value = headers[at + 1] ?? '';
    if (SINGLE.has(name)) {
      if (seen.has(name)) throw new Error(`two headers ${name}`);
      seen.add(name);
    }
    if (name === CALLER_HEADERS.user) caller.name = decodeURIComponent(value);
    else if (name === CALLER_HEADERS.uid) caller.uid = decodeURIComponent(value);
    else if (name === CALLER_HEADERS.group) caller.groups.push(...decodeList(value));
    else if (name.startsWith(CALLER_HEADERS.extraPrefix)) {
      const key = decodeURIComponent(name.slice(CALLER_HEADERS.extraPrefix.length));
      if (key === '' || Object.hasOwn(Object.prototype, key)) throw new Error(`an extra field named ${JSON.stringify(key)}`);
      caller.extra[key] = [...(caller.extra[key] ?? []), ...decodeList(value)];
    } else if (name === CALLER_HEADERS.token) token = decodeURIComponent(value);
    else if (name === CALLER_HEADERS.certificate) certificate = decodeURIComponent(value);
    else if (name === CALLER_HEADERS.privateKey) privateKey = decodeURIComponent(value);
  }
  if (caller.name === '') throw new Error('no user name');
  if (token === '' || certificate === '' || privateKey === '') throw new Error('an empty credential');
  if (token !== undefined && (certificate !== undefined || privateKey !== undefined)) throw new Error('two credentials');
  if (token !== undefined) return { ...caller, credential: { token } };
  if ((certificate === undefined) !== (privateKey === undefined)) throw new Error('a certificate without its key');
  if (certificate !== undefined && privateKey !== undefined) return { ...caller, credential: { certificate, privateKey } };
  return caller;
}
