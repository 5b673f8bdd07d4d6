import type { RawHeaders } from './upstream.ts';

/** Names that concern one connection only (RFC 9110, section 7.6.1) and end at each hop. */
const HOP_BY_HOP = new Set([
  'connection',
  'proxy-connection',
  'keep-alive',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
  'te',
  'proxy-authenticate',
  'proxy-authorization',
]);

/** The names that `Connection` headers list, in lower case; undefined when there are none beyond the usual ones. */
function listedByConnection(headers: RawHeaders): Set<string> | undefined {
  let listed: Set<string> | undefined;
  for (let at = 0; at + 1 < headers.length; at += 2) {
    if (headers[at]?.toLowerCase() !== 'connection') continue;
    for (const part of (headers[at + 1] ?? '').split(',')) {
      const name = part.trim().toLowerCase();
      if (name === '' || HOP_BY_HOP.has(name) || name === 'close') continue;
      listed ??= new Set();
      listed.add(name);
    }
  }
  return listed;
}

/**
 * The end-to-end headers of a message with HTTP/1.1 or HTTP/2 headers: names in lower case, values and order as they came, pseudo-headers gone. `drop` says which
 * others do not travel (it gets the lower-case name and the value).
 */
export function endToEnd(headers: RawHeaders, drop?: (name: string, value: string) => boolean): string[] {
  const listed = listedByConnection(headers);
  const kept: string[] = [];
  for (let at = 0; at + 1 < headers.length; at += 2) {
    const name = (headers[at] ?? '').toLowerCase();
    const value = headers[at + 1] ?? '';
    if (name.startsWith(':') || HOP_BY_HOP.has(name) || listed?.has(name) || drop?.(name, value)) continue;
    kept.push(name, value);
  }
  return kept;
}

/** The first value of a header; `name` in lower case. */
export function headerValue(headers: RawHeaders, name: string): string | undefined {
  for (let at = 0; at + 1 < headers.length; at += 2) if (headers[at]?.toLowerCase() === name) return headers[at + 1];
  return undefined;
}

/** Whether a message with these headers has a body of unknown or known length above zero. HTTP/1.1 requests say so; HTTP/2 ones need not. */
export function announcesBody(headers: RawHeaders): boolean {
  const length = headerValue(headers, 'content-length');
  if (length !== undefined) return length.trim() !== '0';
  return headerValue(headers, 'transfer-encoding') !== undefined;
}
