import type { RawHeaders } from './upstream.ts';

/** Headers of the parent's side that mean nothing to a target, or would mean too much. Whatever a caller sends, these never travel on. */
const WITHHELD = /^(x-remote-|impersonate-|fairlead-)|^(authorization|host|expect)$/;

/** Names in lower case. */
export const isWithheld = (name: string): boolean => WITHHELD.test(name);

/** End-to-end headers (names in lower case) without those. */
export function withoutWithheld(headers: RawHeaders): string[] {
  const kept: string[] = [];
  for (let at = 0; at + 1 < headers.length; at += 2) {
    const name = headers[at] ?? '';
    if (!isWithheld(name)) kept.push(name, headers[at + 1] ?? '');
  }
  return kept;
}
