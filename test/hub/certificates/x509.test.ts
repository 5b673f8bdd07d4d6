import { spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseBundle } from '../../../src/hub/certificates/bundle.ts';
import { issueCertificate } from '../../../src/hub/certificates/x509.ts';

const dates = { notBefore: new Date('2020-01-01T00:00:00Z'), notAfter: new Date('2060-02-03T04:05:06Z') };
const root = issueCertificate({ ...dates, commonName: 'root ä', ca: true });
const middle = issueCertificate({ ...dates, commonName: 'middle', ca: true, issuer: root });
const leaf = issueCertificate({
  ...dates,
  commonName: 'leaf',
  organizations: ['one', 'two'],
  altNames: ['localhost', 'a.b.svc', '127.0.0.1', '::1', '2001:db8::1:0:5', '::ffff:192.0.2.1'],
  usages: ['serverAuth', 'clientAuth'],
  issuer: middle,
});

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fairlead-x509-'));
});
afterAll(() => rm(folder, { recursive: true }));

test('a certificate says what was asked for', () => {
  const certificate = new X509Certificate(leaf.cert);
  expect(certificate.subject).toBe('O=one\nO=two\nCN=leaf');
  expect(certificate.issuer).toBe('CN=middle');
  expect(certificate.validFromDate).toEqual(dates.notBefore);
  expect(certificate.validToDate).toEqual(dates.notAfter);
  expect(certificate.ca).toBe(false);
  expect(certificate.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']);
  for (const address of ['127.0.0.1', '::1', '2001:db8::1:0:5', '::ffff:192.0.2.1'])
    expect(certificate.checkIP(address), address).toBe(address);
  expect(certificate.checkHost('a.b.svc')).toBe('a.b.svc');
  expect(certificate.verify(new X509Certificate(middle.cert).publicKey)).toBe(true);
  expect(new X509Certificate(middle.cert).ca).toBe(true);
  expect(parseBundle(`text ${root.cert} # between\n${middle.cert}`).map((one) => one.subject)).toEqual(['CN=root ä', 'CN=middle']);
});

test('serial numbers are positive, long and never the same', () => {
  const serials = Array.from({ length: 50 }, () => new X509Certificate(issueCertificate({ ...dates, commonName: 'x' }).cert).serialNumber);
  expect(new Set(serials).size).toBe(50);
  for (const serial of serials) expect(serial).toMatch(/^[4-7][0-9A-F]{31}$/);
});

const hasOpenssl = spawnSync('openssl', ['version']).status === 0;

test('openssl accepts the chain by its strictest rules', async (context) => {
  if (!hasOpenssl) context.skip('there is no openssl command');
  const file = async (name: string, text: string) => {
    await writeFile(join(folder, name), text);
    return join(folder, name);
  };
  const files = {
    root: await file('root.pem', root.cert),
    middle: await file('middle.pem', middle.cert),
    leaf: await file('leaf.pem', leaf.cert),
  };
  for (const purpose of ['sslserver', 'sslclient']) {
    const options = ['verify', '-x509_strict', '-purpose', purpose, '-CAfile', files.root, '-untrusted', files.middle, files.leaf];
    const answer = spawnSync('openssl', options, { encoding: 'utf8' });
    expect(answer.stderr + answer.stdout).toContain(': OK');
  }
});

test('a CA that another program made signs too', async (context) => {
  if (!hasOpenssl) context.skip('there is no openssl command');
  const [key, cert, own] = ['other.key', 'other.pem', 'own.pem'].map((name) => join(folder, name)) as [string, string, string];
  const subject = ['-subj', '/C=XX/O=other ö/CN=other', '-utf8', '-addext', 'keyUsage=critical,keyCertSign'];
  const made = spawnSync('openssl', [
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-keyout',
    key,
    '-out',
    cert,
    ...subject,
  ]);
  expect(made.status, made.stderr.toString()).toBe(0);
  const issuer = { cert: await readFile(cert, 'utf8'), key: await readFile(key, 'utf8') };
  const dated = { notBefore: new Date(Date.now() - 60_000), notAfter: new Date(Date.now() + 3_600_000) };
  await writeFile(own, issueCertificate({ ...dated, commonName: 'own', issuer }).cert);
  const answer = spawnSync('openssl', ['verify', '-x509_strict', '-CAfile', cert, own], { encoding: 'utf8' });
  expect(answer.stderr + answer.stdout).toContain(': OK');
});
