import { isUtf8 } from 'node:buffer';
import type { RequestHeaderConfig } from './request-header-config.ts';
import type { UserInfo } from './user.ts';

type HeaderNames = Pick<RequestHeaderConfig, 'usernameHeaders' | 'uidHeaders' | 'groupHeaders' | 'extraHeaderPrefixes'>;

const REPLACEMENT = '\ufffd';

/** UTF-8 text of bytes, each byte that does not belong to a character replaced by itself, as Go's JSON encoder does (Node's decoder replaces runs). */
function utf8(bytes: Buffer): string {
  if (isUtf8(bytes)) return bytes.toString('utf8');
  let text = '';
  for (let at = 0; at < bytes.length; ) {
    const lead = bytes[at] ?? 0;
    const length = lead < 0x80 ? 1 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    const character = bytes.subarray(at, at + length);
    if (character.length === length && isUtf8(character)) {
      text += character.toString('utf8');
      at += length;
    } else {
      text += REPLACEMENT;
      at += 1;
    }
  }
  return text;
}

/** Node hands header bytes over as latin1, one character a byte. */
const headerText = (value: string) => utf8(Buffer.from(value, 'latin1'));

/** The rest of an extra header's name: lower case, then percent-decoded; left as it is when an escape is malformed (Go: url.PathUnescape). */
function extraKey(suffix: string): string {
  const lower = suffix.toLowerCase();
  if (!lower.includes('%')) return headerText(lower);
  if (/%(?![0-9a-f]{2})/.test(lower)) return headerText(lower);
  return headerText(lower.replace(/%([0-9a-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))));
}

/**
 * Who a front proxy says is calling. `rawHeaders` are alternating names and values as they arrived: joined forms lose the border between
 * a repeated header and a comma in a value. undefined when no username header has a value. The algorithm is Go's (k8s.io/apiserver, headerrequest):
 * the first username header whose first value is not empty, all non-empty values of all group headers, all values of all extra headers.
 */
export function requestHeaderIdentity(rawHeaders: readonly string[], names: HeaderNames): UserInfo | undefined {
  const values = new Map<string, string[]>();
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const name = (rawHeaders[at] ?? '').toLowerCase();
    const list = values.get(name);
    if (list) list.push(rawHeaders[at + 1] ?? '');
    else values.set(name, [rawHeaders[at + 1] ?? '']);
  }
  const first = (headers: readonly string[]) => headers.map((header) => values.get(header)?.[0] ?? '').find((value) => value !== '') ?? '';

  const name = first(names.usernameHeaders);
  if (name === '') return undefined;
  const groups = names.groupHeaders.flatMap((header) => values.get(header) ?? []).filter((value) => value !== '');
  const extra = new Map<string, string[]>();
  for (const prefix of names.extraHeaderPrefixes) {
    for (const [header, list] of values) {
      if (!header.startsWith(prefix)) continue;
      const key = extraKey(header.slice(prefix.length));
      extra.set(key, [...(extra.get(key) ?? []), ...list.map(headerText)]);
    }
  }
  return {
    name: headerText(name),
    uid: headerText(first(names.uidHeaders)),
    groups: groups.map(headerText),
    extra: Object.fromEntries(extra),
  };
}
