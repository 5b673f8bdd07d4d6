import { createServer as createTCPServer } from 'node:net';
import { createServer, type TlsOptions } from 'node:tls';
import { expect, test } from 'vitest';
import { allowedAddresses, dial, dialTLS, targetTrust } from '../../../src/agent/upstream/dial.ts';
import { issueCertificate } from '../../../src/hub/certificates/x509.ts';
import { parseTarget, parseTargetPattern } from '../../../src/tunnel/target.ts';
import { makeCa, makeServer } from '../../hub/auth/pki.ts';
import { cleanUp } from '../../support/clean-up.ts';
import { countConnections, listen } from '../../tunnel/agent-end.ts';

const clean = cleanUp();
const ca = makeCa('target-ca');
const patterns = (...texts: string[]) => texts.map(parseTargetPattern);
/** A resolver that knows these addresses, and counts. */
function resolver(...addresses: string[]) {
  const asked: string[] = [];
  const resolve = async (name: string) => {
    asked.push(name);
    if (addresses.length === 0) throw Object.assign(new Error(`getaddrinfo ENOTFOUND ${name}`), { code: 'ENOTFOUND' });
    return addresses.map((address) => ({ address, family: 4 }));
  };
  return { asked, resolve: resolve as unknown as Parameters<typeof allowedAddresses>[2] };
}

test.each([
  ['an address in a block', '10.1.2.3', ['10.0.0.0/8'], [], ['10.1.2.3']],
  ['a name that is named', 'web.svc', ['*.svc'], ['10.1.2.3'], ['10.1.2.3']],
  ['a name that leads into a block', 'web.svc', ['10.0.0.0/8'], ['10.1.2.3'], ['10.1.2.3']],
  [
    'of several addresses those that are allowed',
    'web.svc',
    ['10.0.0.0/8'],
    ['10.2.0.0', '192.168.0.1', '10.1.2.3'],
    ['10.2.0.0', '10.1.2.3'],
  ],
  [
    'of several addresses those that are not special',
    'web.svc',
    ['*.svc'],
    ['127.0.0.1', '10.9.9.9', '::1', '10.1.2.3'],
    ['10.9.9.9', '10.1.2.3'],
  ],
  ['loopback when it is named as an address', 'web.svc', ['*.svc', '127.0.0.1'], ['127.0.0.1'], ['127.0.0.1']],
  ['a metadata address that is named', 'md.svc', ['169.254.169.254'], ['169.254.169.254'], ['169.254.169.254']],
  ['everything but what is special', 'web.svc', ['0.0.0.0/0'], ['169.254.169.254', '127.0.0.1', '8.8.8.8'], ['8.8.8.8']],
])('allowed: %s', async (_what, host, allowed, addresses, good) => {
  expect(await allowedAddresses(parseTarget('http', host), patterns(...allowed), resolver(...addresses).resolve)).toEqual(good);
});

test.each([
  ['nothing is allowed', 'web.svc', [], ['10.1.2.3'], 403, 0],
  ['an address outside of the block', '11.1.2.3', ['10.0.0.0/8'], [], 403, 0],
  ['the metadata service, although all addresses are allowed', '169.254.169.254', ['0.0.0.0/0', '[::/0]'], [], 403, 0],
  ['loopback, although all addresses are allowed', '127.0.0.1', ['0.0.0.0/0'], [], 403, 0],
  ['a name that leads to the metadata of Azure, although all addresses are allowed', 'web.svc', ['0.0.0.0/0'], ['168.63.129.16'], 403, 1],
  ['another port', 'web.svc:81', ['*.svc:80'], ['10.1.2.3'], 403, 0],
  ['an address, although any name is allowed', '10.1.2.3', ['*.svc', '*.3'], [], 403, 0],
  ['a name that leads to loopback', 'web.svc', ['*.svc'], ['127.0.0.1'], 403, 1],
  ['a name that leads to the metadata', 'web.svc', ['*.svc'], ['169.254.169.254'], 403, 1],
  ['a name that leads to loopback in IPv6 clothes', 'web.svc', ['*.svc'], ['::ffff:127.0.0.1', '::1'], 403, 1],
  ['a name that leads out of the block', 'web.svc', ['10.0.0.0/8'], ['192.168.0.1'], 403, 1],
  ['a name that leads into the block at another port', 'web.svc:81', ['10.0.0.0/8:80'], ['10.1.2.3'], 403, 1],
  ['a special name that is named', 'metadata.google.internal', ['*.internal'], ['10.1.2.3'], 403, 1],
  ['a named name without address', 'web.svc', ['*.svc'], [], 502, 1],
  ['another name without address tells nothing about it', 'web.svc', ['10.0.0.0/8'], [], 403, 1],
])('refused: %s', async (_what, host, allowed, addresses, code, looks) => {
  const { asked, resolve } = resolver(...addresses);
  await expect(allowedAddresses(parseTarget('http', host), patterns(...allowed), resolve)).rejects.toMatchObject({
    name: 'TargetError',
    code,
    message: expect.stringContaining(host),
  });
  expect(asked).toHaveLength(looks);
});

test('R23: the address that comes out is one that was looked at, whatever the resolver says the next time', async () => {
  let look = 0;
  const resolve = (async () => [{ address: look++ % 2 === 0 ? '10.0.0.1' : '169.254.169.254', family: 4 }]) as unknown as Parameters<
    typeof allowedAddresses
  >[2];
  for (let at = 0; at < 100; at++) {
    const before = look;
    const result = await allowedAddresses(parseTarget('http', 'web.svc'), patterns('*.svc'), resolve).catch(
      (error: { code: number }) => error.code,
    );
    expect(look - before).toBe(1);
    expect(result).toEqual(before % 2 === 0 ? ['10.0.0.1'] : 403);
  }
});

test('a port where nobody listens is a 502 with the reason', async () => {
  const server = createTCPServer();
  const port = await listen(server);
  await new Promise((resolve) => server.close(resolve));
  await expect(dial('http://web.svc', ['127.0.0.1'], port)).rejects.toMatchObject({
    code: 502,
    message: 'http://web.svc cannot be reached: connection refused',
  });
});

test('of several addresses the next is tried when one does not answer, in order, with TLS too', async () => {
  const { cert, key } = makeServer(ca, ['localhost']);
  const server = createServer({ cert, key }, (socket) => socket.on('error', () => undefined).end());
  countConnections(clean, server);
  const port = await listen(server, '127.0.0.2');
  // Nobody listens at the first ones.
  const plain = await dial('http://web.svc', ['127.0.0.4', '127.0.0.3', '127.0.0.2'], port);
  expect(plain.remoteAddress).toBe('127.0.0.2');
  plain.destroy();
  const secure = await dialTLS('https://web.svc', ['127.0.0.3', '127.0.0.2'], port, { servername: 'localhost', ca: ca.cert });
  expect([secure.remoteAddress, secure.authorized]).toEqual(['127.0.0.2', true]);
  secure.destroy();
  await expect(dial('http://web.svc', ['127.0.0.3', '127.0.0.4'], port)).rejects.toMatchObject({
    code: 502,
    message: 'http://web.svc cannot be reached: connection refused',
  });
});

test('a client certificate that is none is a 502 without lines of OpenSSL', async () => {
  await expect(dialTLS('https://web.svc', ['127.0.0.1'], 1, { cert: 'x', key: 'y' })).rejects.toMatchObject({
    code: 502,
    message: 'https://web.svc cannot be reached: the certificate, key or CA for it is no good: no start line',
  });
});

const DAY = 86_400_000;
async function target(options: TlsOptions): Promise<number> {
  const server = createServer(options, (socket) => {
    socket.on('error', () => undefined);
    socket.end('hello');
  });
  server.on('tlsClientError', () => undefined);
  countConnections(clean, server);
  return await listen(server);
}
const dated = (notBefore: number, notAfter: number) =>
  issueCertificate({
    commonName: 'server',
    altNames: ['localhost', '127.0.0.1'],
    usages: ['serverAuth'],
    issuer: ca,
    notBefore: new Date(Date.now() + notBefore),
    notAfter: new Date(Date.now() + notAfter),
  });

test.each([
  ['another CA', () => makeServer(makeCa('target-ca')), /certificate|signature/i],
  ['a certificate that vouches for itself', () => makeCa('localhost'), /self.signed|verif|certificate|CA/i],
  ['another name', () => makeServer(ca, ['other.example']), /localhost.*other\.example/],
  ['a certificate that has expired', () => dated(-2 * DAY, -DAY), /expired/i],
  ['a certificate of tomorrow', () => dated(DAY, 2 * DAY), /not yet valid/i],
  [
    'a certificate for clients only',
    () =>
      issueCertificate({
        commonName: 'server',
        altNames: ['localhost'],
        usages: ['clientAuth'],
        issuer: ca,
        notBefore: new Date(Date.now() - DAY),
        notAfter: new Date(Date.now() + DAY),
      }),
    /purpose/i,
  ],
])('R29: %s is a 502 that names the target and the reason', async (_what, serving, reason) => {
  const { cert, key } = serving();
  const port = await target({ cert, key });
  process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0';
  clean.after(() => delete process.env['NODE_TLS_REJECT_UNAUTHORIZED']);
  const dialled = dialTLS('https://web.svc', ['127.0.0.1'], port, { servername: 'localhost', ca: ca.cert, rejectUnauthorized: false });
  await expect(dialled).rejects.toMatchObject({ code: 502, message: expect.stringMatching(reason) });
  await expect(dialled).rejects.toThrow('https://web.svc cannot be reached: ');
});

test('R29: a certificate that is right is taken; by address without a name too; old TLS is not', async () => {
  const { cert, key } = makeServer(ca);
  const port = await target({ cert, key });
  for (const servername of ['localhost', '']) {
    const socket = await dialTLS('x', ['127.0.0.1'], port, { servername, ...targetTrust(ca.cert) });
    expect(socket.authorized).toBe(true);
    socket.destroy();
  }
  await expect(dialTLS('x', ['127.0.0.1'], port, { servername: 'localhost' })).rejects.toMatchObject({ code: 502 });
  const old = await target({ cert, key, minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' });
  await expect(dialTLS('x', ['127.0.0.1'], old, { servername: 'localhost', ca: ca.cert })).rejects.toMatchObject({ code: 502 });
  expect(targetTrust(undefined)).toEqual({});
});

test('a target that speaks no TLS is a 502', async () => {
  const server = createTCPServer((socket) => socket.on('error', () => undefined).end('HTTP/1.1 400 Bad Request\r\n\r\n'));
  countConnections(clean, server);
  await expect(dialTLS('https://web.svc', ['127.0.0.1'], await listen(server), { servername: 'localhost' })).rejects.toMatchObject({
    code: 502,
  });
});
