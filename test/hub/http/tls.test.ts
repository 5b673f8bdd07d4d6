import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { type ConnectionOptions, connect, getCACertificates, setDefaultCACertificates, type TLSSocket } from 'node:tls';
import { afterEach, expect, test } from 'vitest';
import { issueCertificate } from '../../../src/hub/certificates/x509.ts';
import { listenerTlsOptions, renewConnections, updateSecureContext } from '../../../src/hub/http/tls.ts';
import { eventually } from '../auth/eventually.ts';
import { makeCa, makeClient, makeServer } from '../auth/pki.ts';

const serverCa = makeCa('server-ca');
const before = makeCa('front-proxy-ca');
const after = makeCa('front-proxy-ca');
const client = makeClient(before, 'front-proxy-client');
const names = ['localhost', 'fairlead-hub.fairlead.svc'];
const serving = makeServer(serverCa, names);

const cleanUp: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const undo of cleanUp.splice(0).reverse()) await undo();
});

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  cleanUp.push(async () => {
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  });
  return (server.address() as AddressInfo).port;
}

type Visit = { session: Buffer | undefined; reused: boolean; protocol: string | null; alpn: string | false | null; authorized: string };

/** One request; ends after the answer, when sessions (TLS 1.3 sends them after the handshake) have arrived. */
function visit(port: number, options: ConnectionOptions): Promise<Visit> {
  return new Promise((resolve, reject) => {
    let session: Buffer | undefined;
    let text = '';
    const socket: TLSSocket = connect({ host: '127.0.0.1', port, ca: serverCa.cert, servername: 'localhost', ...options }, () => {
      socket.write('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
    });
    const seen = { reused: false, protocol: null as string | null, alpn: null as string | false | null };
    socket.on('session', (received: Buffer) => {
      session = received;
    });
    socket.on('secureConnect', () => {
      seen.reused = socket.isSessionReused();
      seen.protocol = socket.getProtocol();
      seen.alpn = socket.alpnProtocol;
    });
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    socket.on('error', reject);
    socket.on('close', () => resolve({ ...seen, session, authorized: /authorized=\w+/.exec(text)?.[0] ?? text }));
  });
}

const saysAuthorized = (server: Server) =>
  server.on('request', (request, response) => {
    response.end(`authorized=${(request.socket as TLSSocket).authorized}`);
  });

for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
  const tls = { minVersion: version, maxVersion: version, cert: client.cert, key: client.key };

  test(`R14: ${version}: 50 sessions from before a rotation, from before none, and from another SNI are never resumed`, async () => {
    const server = saysAuthorized(createServer(listenerTlsOptions(serving, before.cert)));
    const port = await listen(server);
    for (let attempt = 0; attempt < 50; attempt++) {
      updateSecureContext(server, serving, before.cert);
      const first = await visit(port, tls);
      expect(first).toMatchObject({ protocol: version, reused: false, authorized: 'authorized=true' });
      const session = first.session && { session: first.session };
      expect((await visit(port, { ...tls, ...session })).reused).toBe(false);
      // Nothing but the session could bring trust here: no certificate comes along.
      const bare = { minVersion: version, maxVersion: version, ...session };
      for (const servername of names) {
        expect(await visit(port, { ...bare, servername })).toMatchObject({ reused: false, authorized: 'authorized=false' });
      }
      updateSecureContext(server, serving, after.cert);
      expect(await visit(port, { ...bare })).toMatchObject({ reused: false, authorized: 'authorized=false' });
      expect(await visit(port, { ...tls, ...session })).toMatchObject({ reused: false, authorized: 'authorized=false' });
    }
  }, 60_000);

  test(`R14: ${version}: the same client resumes against a listener without these settings (so the test above can fail)`, async () => {
    const server = saysAuthorized(createServer({ ...serving, ca: before.cert, requestCert: true, rejectUnauthorized: false }));
    const port = await listen(server);
    const { session } = await visit(port, tls);
    if (!session) throw new Error('no session received');
    const second = await visit(port, { minVersion: version, maxVersion: version, session });
    expect(second).toMatchObject({ reused: true, authorized: 'authorized=true' });
  });
}

test('only HTTP/1.1 is offered, and nothing older than TLS 1.2', async () => {
  const port = await listen(saysAuthorized(createServer(listenerTlsOptions(serving, before.cert))));
  expect((await visit(port, { ALPNProtocols: ['h2', 'http/1.1'] })).alpn).toBe('http/1.1');
  expect((await visit(port, {})).alpn).toBe(false);
  await expect(visit(port, { ALPNProtocols: ['h2'] })).rejects.toThrow(/alert/);
  await expect(visit(port, { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' })).rejects.toThrow(/alert/);
});

test('without a request-header CA no client certificate is trusted at all, not even one of a public CA', async () => {
  const publicCas = getCACertificates();
  cleanUp.push(() => setDefaultCACertificates(publicCas));
  setDefaultCACertificates([before.cert]);
  const port = await listen(saysAuthorized(createServer(listenerTlsOptions(serving, undefined))));
  expect((await visit(port, { cert: client.cert, key: client.key })).authorized).toBe('authorized=false');
  const dates = { notBefore: new Date(0), notAfter: new Date(Date.now() + 60_000) };
  const self = issueCertificate({ ...dates, commonName: 'front-proxy-client', usages: ['clientAuth'] });
  expect((await visit(port, { cert: self.cert, key: self.key })).authorized).toBe('authorized=false');
});

test('a new serving certificate is used for new connections and open ones go on', async () => {
  const server = saysAuthorized(createServer(listenerTlsOptions(serving, before.cert)));
  const port = await listen(server);
  const open = connect({ host: '127.0.0.1', port, ca: serverCa.cert, servername: 'localhost' });
  cleanUp.push(() => void open.destroy());
  await new Promise((resolve) => open.once('secureConnect', resolve));
  const nextCa = makeCa('next-server-ca');
  updateSecureContext(server, makeServer(nextCa), before.cert);
  expect((await visit(port, { ca: nextCa.cert })).authorized).toBe('authorized=false');
  await expect(visit(port, {})).rejects.toThrow();
  let text = '';
  open.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  open.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await eventually('an answer', () => text.includes('200 OK'));
  expect(() => updateSecureContext(server, { cert: serving.cert, key: 'broken' }, before.cert)).toThrow();
  expect((await visit(port, { ca: nextCa.cert })).authorized).toBe('authorized=false');
});

test('a change of the CA ends idle connections that it concerns, and leaves upgraded and other ones alone', async () => {
  const server = createServer(listenerTlsOptions(serving, before.cert));
  renewConnections(server, before.cert, (socket) => socket.authorized && !rotated);
  let rotated = false;
  saysAuthorized(server);
  server.on('upgrade', (_, socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
    socket.pipe(socket);
  });
  const port = await listen(server);
  async function open(options: ConnectionOptions, head: string): Promise<{ socket: TLSSocket; text(): string }> {
    const socket = connect({ host: '127.0.0.1', port, ca: serverCa.cert, servername: 'localhost', ...options });
    cleanUp.push(() => void socket.destroy());
    let received = '';
    socket.on('data', (chunk: Buffer) => {
      received += chunk.toString();
    });
    socket.write(`GET / HTTP/1.1\r\nHost: localhost\r\n${head}\r\n`);
    await eventually('an answer', () => received.includes('HTTP/1.1'));
    return { socket, text: () => received };
  }
  const withCertificate = { cert: client.cert, key: client.key };
  const idle = await open(withCertificate, '');
  const anonymous = await open({}, '');
  const upgraded = await open(withCertificate, 'Connection: Upgrade\r\nUpgrade: echo\r\n');
  rotated = true;
  updateSecureContext(server, serving, after.cert);
  await eventually('the idle connection ends', () => idle.socket.readableEnded);
  upgraded.socket.write('still here');
  await eventually('the echo', () => upgraded.text().includes('still here'));
  anonymous.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await eventually('a second answer', () => anonymous.text().split('HTTP/1.1').length === 3);
});
