import { BlockList, isIP } from 'node:net';
import { TargetError } from './target-error.ts';

/** Where a request wants to go: a host name or an IP address (IPv6 without brackets) and a port. */
export type Target = { scheme: 'http' | 'https'; host: string; port: number };

/** `host[:port]` as a URL has it. Throws TargetError 403 for forms that two parsers could read differently: what is checked must be what is dialled. */
export function parseTarget(scheme: string, authority: string): Target {
  if (scheme !== 'http' && scheme !== 'https')
    throw new TargetError(400, `the scheme ${quoted(scheme)} is not supported: http and https are`);
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_.-]+))(?::([0-9]{1,5}))?$/.exec(authority);
  if (!match) throw refused(authority, 'it is no host name or address with an optional port');
  const [, v6, name = '', digits] = match;
  const port = digits === undefined ? (scheme === 'https' ? 443 : 80) : Number(digits);
  if (port === 0 || port > 65_535 || digits?.startsWith('0')) throw refused(authority, 'the port is none');
  if (v6 !== undefined) {
    if (isIP(v6) !== 6) throw refused(authority, 'the IPv6 address is none');
    return { scheme, host: plainAddress(v6), port };
  }
  const host = name.toLowerCase();
  if (isIP(host) === 4) return { scheme, host, port };
  const labels = host.split('.');
  if (host.length > 253 || labels.some((label) => !/^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/.test(label)))
    throw refused(authority, 'the host name is malformed');
  // 0x7f000001, 2130706433, 0177.1: resolvers read these as addresses.
  if (/^(0x[0-9a-f]*|[0-9]+)$/.test(labels.at(-1) ?? '')) throw refused(authority, 'an address must be four decimal numbers');
  return { scheme, host, port };
}

/** One entry of an allow-list: a host name or pattern (`*.svc`), an address or a CIDR block, with an optional port. */
export type TargetPattern = {
  text: string;
  host?: RegExp;
  block?: BlockList;
  family?: 'ipv4' | 'ipv6';
  /** The block lies inside of one of the special ranges: only such a one allows special addresses. */
  special?: boolean;
  port?: number;
};

/** Parses `host`, `*.suffix`, `10.0.0.0/8`, `[fd00::/8]`, each with an optional `:port`. Throws an Error with a message for the person at the shell. */
export function parseTargetPattern(text: string): TargetPattern {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::([1-9][0-9]{0,4}))?$/.exec(text.trim());
  const name = match?.[1] ?? match?.[2];
  const port = match?.[3] === undefined ? undefined : Number(match[3]);
  if (name === undefined || (port ?? 1) > 65_535)
    throw new Error('must be HOST, *.SUFFIX, ADDRESS or CIDR, with an optional :PORT (IPv6 in brackets)');
  const withPort = port === undefined ? {} : { port };
  const [address = '', bits, more] = name.split('/');
  const family = isIP(address) === 4 ? 'ipv4' : 'ipv6';
  if (isIP(address) !== 0) {
    if (family === 'ipv6' && isIP(plainAddress(address)) === 4) throw new Error('is an IPv4 address: write it as one');
    const block = new BlockList();
    const most = family === 'ipv4' ? 32 : 128;
    const width = bits === undefined ? most : Number(bits);
    if ((bits !== undefined && !/^\d{1,3}$/.test(bits)) || width > most || more !== undefined)
      throw new Error('the length of the CIDR block is wrong');
    block.addSubnet(address, width, family);
    const inside = SPECIAL.some(
      ([base, bits]) => isIP(base) === isIP(address) && width >= bits && blockOf(base, bits).check(address, family),
    );
    return { text, block, family, special: inside, ...withPort };
  }
  if (!/^(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?$/i.test(name))
    throw new Error('is neither an address nor a host name; only *. at the beginning is a wildcard');
  const pattern = name.toLowerCase().replaceAll('.', '\\.').replace(/^\*/, '[a-z0-9_-]+([.][a-z0-9_-]+)*');
  return { text, host: new RegExp(`^${pattern}$`), ...withPort };
}

const SPECIAL: readonly (readonly [address: string, bits: number])[] = [
  ['0.0.0.0', 8],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
  // Metadata services outside of the link-local range: Alibaba's, Oracle's, Azure's.
  ['100.100.100.200', 32],
  ['192.0.0.192', 32],
  ['168.63.129.16', 32],
  ['::', 127],
  ['fe80::', 10],
  ['ff00::', 8],
  // The same of AWS (instances, and pods of EKS) and of Google.
  ['fd00:ec2::254', 128],
  ['fd00:ec2::23', 128],
  ['fd20:ce::254', 128],
  // IPv4 addresses in IPv6 clothes that a gateway may translate.
  ['64:ff9b::', 96],
  ['2002::', 16],
];

function blockOf(address: string, bits: number, block = new BlockList()): BlockList {
  block.addSubnet(address, bits, isIP(address) === 4 ? 'ipv4' : 'ipv6');
  return block;
}
const special = new BlockList();
for (const [address, bits] of SPECIAL) blockOf(address, bits, special);

/** Loopback, link-local, metadata, multicast and unspecified addresses: never reached unless one is named, or a block of nothing but such. */
export const isSpecialAddress = (address: string): boolean => {
  const plain = plainAddress(address);
  return special.check(plain, isIP(plain) === 4 ? 'ipv4' : 'ipv6');
};

/** Host names that lead to such addresses. */
export const isSpecialName = (host: string): boolean =>
  /^(localhost|.*\.localhost|metadata|metadata\.google\.internal|instance-data(\.ec2\.internal)?)$/.test(host);

/** IPv4-mapped IPv6 as the IPv4 address that the kernel dials. */
export function plainAddress(address: string): string {
  const canonical = isIP(address) === 6 ? new URL(`http://[${address}]`).hostname.slice(1, -1) : address;
  const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(canonical);
  if (!mapped) return canonical;
  const [high, low] = [Number.parseInt(mapped[1] ?? '0', 16), Number.parseInt(mapped[2] ?? '0', 16)];
  return [high >> 8, high & 255, low >> 8, low & 255].join('.');
}

const matchesPort = (pattern: TargetPattern, port: number) => pattern.port === undefined || pattern.port === port;

/** Whether a pattern names this address by number. A wide block (`0.0.0.0/0`) does not name the special addresses in it: who writes it thinks of other ones. */
export function namesAddress(patterns: readonly TargetPattern[], address: string, port: number): boolean {
  const plain = plainAddress(address);
  const family = isIP(plain) === 4 ? 'ipv4' : 'ipv6';
  const isSpecial = isSpecialAddress(plain);
  return patterns.some(
    (pattern) =>
      // A BlockList finds IPv4 addresses in `::/0` too, as mapped ones.
      pattern.family === family && (pattern.special || !isSpecial) && pattern.block?.check(plain, family) && matchesPort(pattern, port),
  );
}

/** Whether a pattern names this host by name. */
export const namesHost = (patterns: readonly TargetPattern[], host: string, port: number): boolean =>
  patterns.some((pattern) => pattern.host?.test(host) && matchesPort(pattern, port));

/** The refusal of a target, with its name and the reason. */
export const refused = (authority: string, why: string): TargetError =>
  new TargetError(403, `the target ${quoted(authority)} is not allowed: ${why}`);

const quoted = (text: string) => JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}...` : text);
