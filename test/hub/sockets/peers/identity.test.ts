import { X509Certificate } from 'node:crypto';
import { connect as connectHttp2 } from 'node:http2';
import { connect as connectTls, createServer, type TLSSocket } from 'node:tls';
import { expect, test, vi } from 'vitest';
import { type Issued, type IssueOptions, issueCertificate } from '../../../../src/hub/certificates/x509.ts';
import { peerIdentity, peerUri } from '../../../../src/hub/sockets/peers/identity.ts';
import { type AgentTunnel, acceptTunnel } from '../../../../src/tunnel/session.ts';
import { cleanUp } from '../../../support/clean-up.ts';
import { type KubeApi, kubeApi } from '../../../support/kube-api.ts';
import { NAMESPACE, putSlice, SECRET_PATH, startReplica, target } from './replicas.ts';

const undo = cleanUp();
const eventually = <T>(check: () => T | Promise<T>) => vi.waitFor(check, { timeout: 15_000, interval: 5 });
const PROTOCOL = 'fairlead-peer/1';

const hours = (count: number) => new Date(Date.now() + count * 3_600_000);
const ca = (commonName: string): Issued => issueCertificate({ commonName, ca: true, notBefore: hours(-1), notAfter: hours(1) });
const leaf = (issuer: Issued, options: Partial<IssueOptions> = {}): Issued =>
  issueCertificate({
    commonName: 'fairlead-hub-peer',
    usages: ['clientAuth', 'serverAuth'],
    uris: [peerUri(NAMESPACE, 'stranger')],
    issuer,
    notBefore: hours(-1),
    notAfter: hours(1),
    ...options,
  });

/** Certificates that prove nothing, by what is wrong with them. Each is sent with its chain. */
function wrongCertificates(authority: Issued): Record<string, Issued> {
  const [clusterCA, proxyCA] = [ca('kubernetes'), ca('front-proxy-ca')];
  const replica = leaf(authority);
  return {
    'of the CA of the cluster': leaf(clusterCA),
    'of the front proxy': leaf(proxyCA, { commonName: 'front-proxy-client', usages: ['clientAuth'], uris: [] }),
    'of an authority of the same name': leaf(ca(new X509Certificate(authority.cert).subject.replace('CN=', ''))),
    'of another namespace': leaf(authority, { uris: [peerUri('other', 'hub-1')] }),
    'without the name of a replica': leaf(authority, { uris: [], altNames: ['localhost'] }),
    'with a DNS name that looks like a URI': leaf(authority, { uris: [], altNames: [`x, URI:${peerUri(NAMESPACE, 'hub-1')}`] }),
    'with a second name': leaf(authority, { altNames: ['localhost'] }),
    'for one end only': leaf(authority, { usages: ['clientAuth'] }),
    'for the other end only': leaf(authority, { usages: ['serverAuth'] }),
    'for no end': leaf(authority, { usages: [] }),
    'that is over': leaf(authority, { notAfter: hours(-0.5) }),
    'that is not valid yet': leaf(authority, { notBefore: hours(0.5) }),
    'of a replica that plays authority': chain(leaf(replica), replica),
    'of the authority itself': authority,
    'signed by itself': issueCertificate({
      ...{ commonName: 'fairlead-hub-peer', uris: [peerUri(NAMESPACE, 'hub-2')], usages: ['clientAuth', 'serverAuth'] },
      ...{ notBefore: hours(-1), notAfter: hours(1) },
    }),
  };
}
const chain = (pair: Issued, ...issuers: Issued[]): Issued => ({
  key: pair.key,
  cert: pair.cert + issuers.map(({ cert }) => cert).join(''),
});

/** The authority of the replicas, once they have made it. */
const authorityOf = (api: KubeApi) =>
  eventually(() => {
    const data = (api.get(SECRET_PATH) as { data?: Record<string, string> } | undefined)?.data;
    const part = (name: string) => Buffer.from(data?.[name] ?? '', 'base64').toString();
    if (part('tls.key') === '') throw new Error('no authority yet');
    return { cert: part('tls.crt'), key: part('tls.key') };
  });

/** The status of `GET /tunnels`, or why there was none. */
function listTunnels(port: number, options: object): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const socket = connectTls({ host: '127.0.0.1', port, rejectUnauthorized: false, minVersion: 'TLSv1.2', ...options });
  undo.after(() => socket.destroy());
  socket.on('error', (error) => resolve(`refused: ${error.message}`));
  socket.once('close', () => resolve('refused: closed'));
  socket.once('secureConnect', () => {
    const session = connectHttp2('http://peer', { createConnection: () => socket });
    session.on('error', (error) => resolve(`refused: ${error.message}`));
    session.once('close', () => resolve('refused: closed'));
    const stream = session.request({ ':method': 'GET', ':scheme': 'https', ':authority': 'hub', ':path': '/tunnels' });
    stream.on('error', (error) => resolve(`refused: ${error.message}`));
    stream.once('response', (headers) => resolve(String(headers[':status'])));
  });
  return promise;
}

test('R47: a replica answers nobody but replicas: all other certificates are refused', async () => {
  const api = await kubeApi();
  undo.after(() => api.close());
  const { peers } = await startReplica(api, 'hub-1', { signal: undo.signal() });
  undo.after(() => peers.close(0));
  const authority = await authorityOf(api);
  await eventually(() => expect(peers.check()).toBeUndefined());
  const good = leaf(authority);
  const with_ = (pair: Issued) => ({ cert: pair.cert, key: pair.key, ALPNProtocols: [PROTOCOL] });
  expect(await listTunnels(peers.port, with_(good))).toBe('200');
  for (const [kind, pair] of Object.entries(wrongCertificates(authority))) {
    expect([kind, await listTunnels(peers.port, with_(pair))]).toEqual([kind, expect.stringMatching(/^refused/)]);
  }
  expect(await listTunnels(peers.port, { ALPNProtocols: [PROTOCOL] })).toMatch(/^refused/);
  expect(await listTunnels(peers.port, { ...with_(good), ALPNProtocols: ['h2'] })).toMatch(/^refused/);
  expect(await listTunnels(peers.port, { ...with_(good), ALPNProtocols: undefined })).toMatch(/^refused/);
  expect(await listTunnels(peers.port, { ...with_(good), maxVersion: 'TLSv1.2' })).toMatch(/^refused/);
});

test('R47: nothing is sent to an address that is no replica, whatever certificate it has', async () => {
  const api = await kubeApi();
  undo.after(() => api.close());
  const { peers, registry, news } = await startReplica(api, 'hub-1', { signal: undo.signal() });
  undo.after(() => peers.close(0));
  const authority = await authorityOf(api);
  let requests = 0;
  const imposter = (pair: Issued, port = 0) =>
    new Promise<number>((resolve, reject) => {
      const open = new Set<TLSSocket>();
      const server = createServer({
        cert: pair.cert,
        key: pair.key,
        requestCert: true,
        rejectUnauthorized: false,
        ALPNProtocols: [PROTOCOL],
      });
      server.on('tlsClientError', () => undefined);
      server.on('secureConnection', (socket) => {
        open.add(socket);
        socket.on('error', () => undefined);
        const tunnel: AgentTunnel = acceptTunnel(socket, Buffer.alloc(0), {
          serve(stream) {
            requests++;
            stream.respond({ ':status': 200 });
            stream.write(`${JSON.stringify({ tunnel: { id: 'c1', protocol: 'fairlead', since: new Date() } })}\n{"synced":true}\n`);
          },
          onError: () => undefined,
        });
        tunnel.closed.catch(() => undefined);
      });
      undo.after(() => {
        for (const socket of open) socket.destroy();
        server.close();
      });
      server.once('error', reject);
      server.listen(port, '127.0.0.1', () => {
        const address = server.address();
        resolve(typeof address === 'object' && address ? address.port : 0);
      });
    });
  const wrong = Object.entries(wrongCertificates(authority));
  for (const [index, [, pair]] of wrong.entries()) putSlice(api, `imposter-${index}`, await imposter(pair));
  await eventually(async () => {
    expect(peers.check()).toBeUndefined();
    expect(peers.replicas()).toBe(1 + wrong.length);
    const count = /link_failures_total\{reason="identity"\} (\d+)/.exec(await registry.metrics())?.[1];
    expect(Number(count)).toBeGreaterThanOrEqual(wrong.length);
  });
  expect(news.join('\n')).toContain('is no replica of this hub');
  expect([requests, peers.find('c1')]).toEqual([0, undefined]);
  // The same server with a replica's certificate is believed: the test would notice.
  putSlice(api, 'good', await imposter(leaf(authority)));
  await eventually(() => expect(peers.find('c1')).toBeDefined());
});

test('a replica does not take itself for another one', async () => {
  const api = await kubeApi();
  undo.after(() => api.close());
  const one = await startReplica(api, 'hub-1', { signal: undo.signal() });
  undo.after(() => one.peers.close(0));
  one.tunnels.set('c1', target('child'));
  putSlice(api, 'hub-1', one.peers.port);
  await eventually(() => expect(one.peers.check()).toBeUndefined());
  await eventually(() => expect(one.peers.replicas()).toBe(1));
  expect(one.peers.find('c1')).toBeUndefined();
});

test('names of replicas survive the way into a certificate and back', () => {
  const authority = ca('authority');
  for (const name of ['hub-1', 'fairlead-hub-7d9c_ab12', 'a/b, URI:c', 'ä ö%20"', "it's (me)!*~"]) {
    const { cert } = leaf(authority, { uris: [peerUri(NAMESPACE, name)] });
    expect(peerIdentity(new X509Certificate(cert), NAMESPACE, authority.cert)).toBe(name);
  }
  expect(() => peerIdentity(undefined, NAMESPACE, authority.cert)).toThrow('no certificate');
  expect(() => peerIdentity(new X509Certificate(leaf(authority).cert), NAMESPACE, '')).toThrow('authority');
});
