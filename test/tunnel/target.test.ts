import { isIP } from 'node:net';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  isSpecialAddress,
  isSpecialName,
  namesAddress,
  namesHost,
  parseTarget,
  parseTargetPattern,
  plainAddress,
} from '../../src/tunnel/target.ts';
import { TargetError, targetStatus } from '../../src/tunnel/target-error.ts';

const codeFor = (scheme: string, authority: string): number => {
  try {
    parseTarget(scheme, authority);
    return 200;
  } catch (error) {
    if (error instanceof TargetError) return error.code;
    throw error;
  }
};

test.each([
  ['http', 'example.com', { scheme: 'http', host: 'example.com', port: 80 }],
  ['https', 'Example.COM', { scheme: 'https', host: 'example.com', port: 443 }],
  ['http', 'web.default.svc:8080', { scheme: 'http', host: 'web.default.svc', port: 8080 }],
  ['http', 'my_host:65535', { scheme: 'http', host: 'my_host', port: 65_535 }],
  ['http', '10.0.0.1:1', { scheme: 'http', host: '10.0.0.1', port: 1 }],
  ['https', '[2001:DB8:0::1]:6443', { scheme: 'https', host: '2001:db8::1', port: 6443 }],
  ['https', '[::ffff:10.0.0.1]', { scheme: 'https', host: '10.0.0.1', port: 443 }],
  ['https', '[::ffff:a9fe:a9fe]', { scheme: 'https', host: '169.254.169.254', port: 443 }],
])('%s %s is read', (scheme, authority, target) => {
  expect(parseTarget(scheme, authority)).toEqual(target);
});

test.each(['ftp', 'file', 'HTTPS', '', 'gopher', 'unix', 'http '])('the scheme %j is refused with 400', (scheme) => {
  expect(codeFor(scheme, 'example.com')).toBe(400);
});

test('a target that was read has one form: reading it again gives the same, and every parser sees the same host', () => {
  const label = fc.stringMatching(/^[a-z_]([a-z0-9_-]{0,10}[a-z0-9_])?$/);
  const name = fc.array(label, { minLength: 1, maxLength: 5 }).map((labels) => labels.join('.'));
  const host = fc.oneof(
    name,
    fc.ipV4(),
    fc.ipV6().map((address) => `[${address}]`),
  );
  fc.assert(
    fc.property(host, fc.option(fc.integer({ min: 1, max: 65_535 })), fc.boolean(), (text, port, upper) => {
      const authority = `${upper ? text.toUpperCase() : text}${port === null ? '' : `:${port}`}`;
      const target = parseTarget('http', authority);
      expect(target.port).toBe(port ?? 80);
      const again = isIP(target.host) === 6 ? `[${target.host}]` : target.host;
      expect(parseTarget('http', `${again}:${target.port}`)).toEqual(target);
      // The URL parser of browsers and fetch; it writes addresses in IPv6 clothes in hexadecimal.
      const seen = new URL(`http://${authority}/`).hostname;
      expect(plainAddress(seen.replace(/^\[|\]$/g, ''))).toBe(target.host);
    }),
  );
});

test('any text is a target or is refused, and nothing in a target could be read as something else', () => {
  const odd = fc.string({
    unit: fc.constantFrom('a', '1', '.', ':', '@', '[', ']', '%', '/', '\\', ' ', '\0', '\r', '\n', '。', '0', 'x', '-', '#', '?'),
  });
  fc.assert(
    fc.property(fc.oneof(odd, fc.string(), fc.webAuthority()), (authority) => {
      let target: ReturnType<typeof parseTarget>;
      try {
        target = parseTarget('https', authority);
      } catch (error) {
        expect(error).toBeInstanceOf(TargetError);
        expect((error as TargetError).code).toBe(403);
        return;
      }
      expect(target.host).toMatch(/^[a-z0-9_.:-]+$/);
      expect(target.port).toBeGreaterThan(0);
      expect(target.port).toBeLessThan(65_536);
      const digitsOnly = /^[0-9.]+$/.test(target.host);
      if (digitsOnly) expect(isIP(target.host)).toBe(4);
    }),
    { numRuns: 2_000 },
  );
});

test.each([
  ['127.0.0.1', true],
  ['127.255.255.254', true],
  ['0.0.0.0', true],
  ['169.254.169.254', true],
  ['::1', true],
  ['::', true],
  ['::ffff:127.0.0.1', true],
  ['::ffff:a9fe:a9fe', true],
  ['fe80::1', true],
  ['ff02::1', true],
  ['fd00:ec2::254', true],
  ['64:ff9b::7f00:1', true],
  ['2002:7f00:1::', true],
  ['224.0.0.1', true],
  ['255.255.255.255', true],
  ['100.100.100.200', true],
  ['192.0.0.192', true],
  ['168.63.129.16', true],
  ['::ffff:168.63.129.16', true],
  ['fd00:ec2::23', true],
  ['fd20:ce::254', true],
  ['168.63.129.17', false],
  ['fd20:ce::255', false],
  ['10.0.0.1', false],
  ['192.168.1.1', false],
  ['100.100.100.201', false],
  ['fd00::1', false],
  ['2001:db8::1', false],
  ['8.8.8.8', false],
])('the address %s is special: %s', (address, special) => {
  expect(isSpecialAddress(address)).toBe(special);
});

test('names of the machine itself and of its metadata are special', () => {
  for (const name of ['localhost', 'a.localhost', 'metadata', 'metadata.google.internal', 'instance-data', 'instance-data.ec2.internal'])
    expect(isSpecialName(name), name).toBe(true);
  for (const name of ['localhost.example', 'metadata.example', 'mylocalhost', 'web.default.svc'])
    expect(isSpecialName(name), name).toBe(false);
});

test.each([
  ['example.com', 'example.com', 80, true],
  ['example.com', 'a.example.com', 80, false],
  ['example.com', 'exampleXcom', 80, false],
  ['EXAMPLE.com', 'example.com', 80, true],
  ['*.svc', 'web.default.svc', 80, true],
  ['*.svc', 'svc', 80, false],
  ['*.svc', 'web.svc.evil', 80, false],
  ['*.svc', 'websvc', 80, false],
  ['*.svc', '.svc', 80, false],
  ['*.svc:8080', 'web.svc', 8080, true],
  ['*.svc:8080', 'web.svc', 80, false],
])('the pattern %s names the host %s at port %d: %s', (pattern, host, port, named) => {
  expect(namesHost([parseTargetPattern(pattern)], host, port)).toBe(named);
});

test.each([
  ['10.0.0.0/8', '10.1.2.3', 80, true],
  ['10.0.0.0/8', '11.0.0.0', 80, false],
  ['10.0.0.0/8', '::ffff:10.1.2.3', 80, true],
  ['10.0.0.0/8:443', '10.1.2.3', 80, false],
  ['10.1.2.3', '10.1.2.3', 1, true],
  ['10.1.2.3', '10.1.2.4', 1, false],
  ['[fd00::/8]', 'fd12::1', 80, true],
  ['[fd00::/8]:443', 'fd12::1', 80, false],
  ['[fd00::/8]', 'fe00::1', 80, false],
  ['[fd00::1]', 'fd00:0:0::1', 80, true],
  ['0.0.0.0/0', '1.2.3.4', 80, true],
  ['0.0.0.0/0', '2001:db8::1', 80, false],
  ['[::/0]', '1.2.3.4', 80, false],
  // Special addresses: named by an address, or by a block of such alone.
  ['127.0.0.1', '127.0.0.1', 80, true],
  ['127.0.0.0/8', '127.0.0.1', 80, true],
  ['127.0.0.0/24', '127.0.0.1', 80, true],
  ['126.0.0.0/7', '127.0.0.1', 80, false],
  ['0.0.0.0/0', '127.0.0.1', 80, false],
  ['0.0.0.0/1', '0.0.0.0', 80, false],
  ['169.254.169.254', '169.254.169.254', 80, true],
  ['169.254.169.254:81', '169.254.169.254', 80, false],
  ['169.254.0.0/16', '169.254.169.254', 80, true],
  ['0.0.0.0/0', '169.254.169.254', 80, false],
  ['0.0.0.0/0', '::ffff:169.254.169.254', 80, false],
  ['168.0.0.0/8', '168.63.129.16', 80, false],
  ['168.0.0.0/8', '168.63.129.17', 80, true],
  ['168.63.129.16', '168.63.129.16', 80, true],
  ['100.64.0.0/10', '100.100.100.200', 80, false],
  ['[::/0]', '::1', 80, false],
  ['[::1]', '::1', 80, true],
  ['[fd00::/8]', 'fd00:ec2::254', 80, false],
  ['[fd00:ec2::/32]', 'fd00:ec2::254', 80, false],
  ['[fd00:ec2::254]', 'fd00:ec2::254', 80, true],
  ['[fe80::/10]', 'fe80::1', 80, true],
  ['[64:ff9b::/96]', '64:ff9b::7f00:1', 80, true],
])('the pattern %s names the address %s at port %d: %s', (pattern, address, port, named) => {
  expect(namesAddress([parseTargetPattern(pattern)], address, port)).toBe(named);
});

test.each([
  '',
  ' ',
  '*',
  '*.',
  'a*.svc',
  '*.*.svc',
  'host:0',
  'host:65536',
  'host:080',
  'host:',
  '10.0.0.0/33',
  '10.0.0.0/',
  '10.0.0.0/-1',
  '10.0.0.0/8/8',
  '10.0.0/8',
  'fd00::1',
  '[fd00::/129]',
  '[fd00::',
  'https://host',
  'user@host',
  'host/path',
  'ho st',
  '.*',
  '(a+)+',
  'a|b',
])('%j is no pattern', (text) => {
  expect(() => parseTargetPattern(text)).toThrow();
});

test('a CIDR block names exactly the addresses in it, but special ones only when it holds nothing else', () => {
  const number = (address: string) => address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
  fc.assert(
    fc.property(fc.ipV4(), fc.integer({ min: 0, max: 32 }), fc.ipV4(), fc.boolean(), (base, bits, other, near) => {
      const size = 2 ** (32 - bits);
      // Half of the time an address at the edge of the block.
      const start = Math.floor(number(base) / size) * size;
      const at = near ? Math.min(start + size, 2 ** 32 - 1) : number(other);
      const dotted = (value: number) => [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.');
      const address = dotted(at);
      const inside = at >= start && at < start + size;
      const pattern = parseTargetPattern(`${base}/${bits}`);
      // 224.0.0.0/4 and 240.0.0.0/4 are neighbours, the only ones.
      const allSpecial = size <= 2 ** 28 && isSpecialAddress(dotted(start)) && isSpecialAddress(dotted(start + size - 1));
      expect(pattern.special).toBe(allSpecial);
      expect(namesAddress([pattern], address, 80)).toBe(inside && (allSpecial || !isSpecialAddress(address)));
    }),
  );
});

test('a hostile pattern or name costs no time', () => {
  const pattern = parseTargetPattern('*.a');
  const began = performance.now();
  namesHost([pattern], `${'a.'.repeat(50_000)}b`, 80);
  namesHost([pattern], 'a-'.repeat(50_000), 80);
  expect(performance.now() - began).toBeLessThan(2_000);
});

test('a refusal is a Status with the target, shortened, and without raw control characters', () => {
  const authority = `a\r\nb${'x'.repeat(1_000)}`;
  try {
    parseTarget('http', authority);
    expect.unreachable();
  } catch (error) {
    if (!(error instanceof TargetError)) throw error;
    const status = JSON.parse(targetStatus(error)) as { message: string };
    expect(status).toMatchObject({ kind: 'Status', status: 'Failure', code: 403, reason: 'Forbidden' });
    expect(status.message).toContain(String.raw`a\r\nb`);
    expect(status.message).not.toMatch(/[\r\n]/);
    expect(status.message.length).toBeLessThan(300);
  }
});
