import { BlockList, isIP } from 'node:net';

/** A network in CIDR notation. `base` is the value of its first address. */
export type Cidr = { text: string; family: 4 | 6; base: bigint; prefix: number };

const bits = (family: 4 | 6) => (family === 4 ? 32 : 128);

/** Value of an IPv4 or IPv6 address; undefined when it is none (zones and IPv4-mapped forms are not taken). */
export function addressValue(text: string): { family: 4 | 6; value: bigint } | undefined {
  const family = isIP(text);
  if (family === 4) return { family, value: text.split('.').reduce((sum, part) => sum * 256n + BigInt(part), 0n) };
  if (family !== 6 || text.includes('%') || text.includes('.')) return undefined;
  const [head = '', tail] = text.split('::');
  const left = head ? head.split(':') : [];
  const right = tail ? tail.split(':') : [];
  const zeros = tail === undefined ? [] : new Array<string>(8 - left.length - right.length).fill('0');
  return { family: 6, value: [...left, ...zeros, ...right].reduce((sum, part) => sum * 65_536n + BigInt(`0x${part}`), 0n) };
}

/** Text of an address; IPv6 in full groups without leading zeros, the longest run of zeros shortened by the caller's eye only. */
export function addressText(family: 4 | 6, value: bigint): string {
  const size = family === 4 ? 8n : 16n;
  const parts = Array.from({ length: family === 4 ? 4 : 8 }, (_, index, count = family === 4 ? 4 : 8) => {
    const part = (value >> (BigInt(count - 1 - index) * size)) & ((1n << size) - 1n);
    return part.toString(family === 4 ? 10 : 16);
  });
  if (family === 4) return parts.join('.');
  return parts.join(':').replace(/(^|:)0(:0)+(:|$)/, '::');
}

/** Reads CIDR notation; undefined when it is none. Bits after the prefix must be 0. */
export function parseCidr(text: string): Cidr | undefined {
  const match = /^([^/]+)\/(\d{1,3})$/.exec(text);
  const address = match?.[1] === undefined ? undefined : addressValue(match[1]);
  const prefix = Number(match?.[2]);
  if (!address || prefix > bits(address.family)) return undefined;
  const size = 1n << BigInt(bits(address.family) - prefix);
  return address.value % size === 0n ? { text, family: address.family, base: address.value, prefix } : undefined;
}

const last = (cidr: Cidr) => cidr.base + (1n << BigInt(bits(cidr.family) - cidr.prefix)) - 1n;

export function overlaps(a: Cidr, b: Cidr): boolean {
  return a.family === b.family && a.base <= last(b) && b.base <= last(a);
}

export function contains(cidr: Cidr, address: string): boolean {
  const found = addressValue(address);
  return found !== undefined && found.family === cidr.family && found.value >= cidr.base && found.value <= last(cidr);
}

/** The first block of that prefix length in a network. */
export function firstBlock(cidr: Cidr, prefix: number): string {
  return `${addressText(cidr.family, cidr.base)}/${Math.max(prefix, cidr.prefix)}`;
}

/** The Nth address of a network, 1 being the one after its own. */
export function nthAddress(cidr: Cidr, n: number): string {
  return addressText(cidr.family, cidr.base + BigInt(n));
}

/** Networks that no cluster can use: loopback, link-local, multicast, unspecified. */
const reserved = new BlockList();
for (const [network, prefix] of [
  ['0.0.0.0', 8],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['224.0.0.0', 3],
] as const)
  reserved.addSubnet(network, prefix);
for (const [network, prefix] of [
  ['::', 127],
  ['fe80::', 10],
  ['ff00::', 8],
] as const)
  reserved.addSubnet(network, prefix, 'ipv6');

export function isReserved(cidr: Cidr): boolean {
  return reserved.check(addressText(cidr.family, cidr.base), cidr.family === 4 ? 'ipv4' : 'ipv6');
}
