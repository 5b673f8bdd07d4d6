import { createServer as createTCPServer } from 'node:net';
import { createServer, type TlsOptions } from 'node:tls';
import { expect, test } from 'vitest';
import { allowedAddress, dial, dialTLS, withSystemCAs } from '../../../src/agent/upstream/dial.ts';
import { issueCertificate } from '../../../src/hub/certificates/x509.ts';
import { parseTarget, parseTargetPattern } from '../../../src/tunnel/target.ts';
import { makeCa, makeServer } from '../../hub/auth/pki.ts';
import { cleanUp } from '../../support/clean-up.ts';
import { countConnections, listen } from '../../tunnel/agent-end.ts';

const clean = cleanUp();
const patterns = (...texts: string[]) => texts.map(parseTargetPattern);
/** A resolver that knows these addresses, and counts. */
function resolver(...addresses: string[]) {
  const asked: string[] = [];
  const resolve = async (name: string) => {
    asked.push(name);
    if (addresses.length === 0) throw Object.assign(new Error(`getaddrinfo ENOTFOUND ${name}`), { code: 'ENOTFOUND' });
    return addresses.map((address) => ({ address, family: 4 }));
  };
  return { asked, resolve: resolve as unknown as Parameters<typeof allowedAddress>[2] };
}

test.each([
  ['an address in a block', '10.1.2.3', ['10.0.0.0/8'], [], '10.1.2.3'],
  ['a name that is named', 'web.svc', ['*.svc'], ['10.1.2.3'], '10.1.2.3'],
  ['a name that leads into a block', 'web.svc', ['10.0.0.0/8'], ['10.1.2.3'], '10.1.2.3'],
  ['of several addresses the one that is allowed', 'web.svc', ['10.0.0.0/8'], ['192.168.0.1', '10.1.2.3'], '10.1.2.3'],
  ['of several addresses the one that is not special', 'web.svc', ['*.svc'], ['127.0.0.1', '169.254.169.254', '10.1.2.3'], '10.1.2.3'],
  ['loopback when it is named as an address', 'web.svc', ['*.svc', '127.0.0.1'], ['127.0.0.1'], '127.0.0.1'],
])('allowed: %s', async (_what, host, allowed, addresses, address) => {
  expect(await allowedAddress(parseTarget('http', host), patterns(...allowed), resolver(...addresses).resolve)).toBe(address);
});

test.each([
  ['nothing is allowed', 'web.svc', [], ['10.1.2.3'], 403, 0],
  ['an address outside of the block', '11.1.2.3', ['10.0.0.0/8'], [], 403, 0],
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
  await expect(allowedAddress(parseTarget('http', host), patterns(...allowed), resolve)).rejects.toMatchObject({
    name: 'TargetError',
    code,
    message: expect.stringContaining(host),
  });
  expect(asked).toHaveLength(looks);
});

test('R23: the address that comes out is one that was looked at, whatever the resolver says the next time', async () => {
  let look = 0;
  const resolve = (async () => [{ address: look++ % 2 === 0 ? '10.0.0.1' : '169.254.169.254', family: 4 }]) as unknown as Parameters<
    typeof allowedAddress
  >[2];
  for (let at = 0; at < 100; at++) {
    const before = look;
    const result = await allowedAddress(parseTarget('http', 'web.svc'), patterns('*.svc'), resolve).catch(
      (error: { code: number }) => error.code,
    );
    expect(look - before).toBe(1);
    expect(result).toBe(before % 2 === 0 ? '10.0.0.1' : 403);
  }
});

test('a port where nobody listens is a 502 with the reason', async () => {
  const server = createTCPServer();
  const port = await listen(server);
  await new Promise((resolve) => server.close(resolve));
  await expect(dial('http://web.svc', '127.0.0.1', port)).rejects.toMatchObject({
    code: 502,
    message: 'http://web.svc cannot be reached: connection refused',
  });
});

const DAY = 86_400_000;
const ca = makeCa('target-ca');
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
  const dialled = dialTLS('https://web.svc', '127.0.0.1', port, { servername: 'localhost', ca: ca.cert, rejectUnauthorized: false });
  await expect(dialled).rejects.toMatchObject({ code: 502, message: expect.stringMatching(reason) });
  await expect(dialled).rejects.toThrow('https://web.svc cannot be reached: ');
});

test('R29: a certificate that is right is taken; by address without a name too; old TLS is not', async () => {
  const { cert, key } = makeServer(ca);
  const port = await target({ cert, key });
  for (const servername of ['localhost', '']) {
    const socket = await dialTLS('x', '127.0.0.1', port, { servername, ca: withSystemCAs(ca.cert) });
    expect(socket.authorized).toBe(true);
    socket.destroy();
  }
  await expect(dialTLS('x', '127.0.0.1', port, { servername: 'localhost' })).rejects.toMatchObject({ code: 502 });
  const old = await target({ cert, key, minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' });
  await expect(dialTLS('x', '127.0.0.1', old, { servername: 'localhost', ca: ca.cert })).rejects.toMatchObject({ code: 502 });
  expect(withSystemCAs(undefined)).toBeUndefined();
});

test('a target that speaks no TLS is a 502', async () => {
  const server = createTCPServer((socket) => socket.on('error', () => undefined).end('HTTP/1.1 400 Bad Request\r\n\r\n'));
  countConnections(clean, server);
  await expect(dialTLS('https://web.svc', '127.0.0.1', await listen(server), { servername: 'localhost' })).rejects.toMatchObject({
    code: 502,
  });
});
