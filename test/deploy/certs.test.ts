import { execFileSync, spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkPair } from '../../src/hub/certificates/files.ts';
import { coversNames, isServable } from '../../src/hub/certificates/generate.ts';
import { root } from './kustomize.ts';

let out: string;

beforeEach(() => {
  out = mkdtempSync(join(tmpdir(), 'fairlead-certs-'));
});
afterEach(() => rmSync(out, { recursive: true, force: true }));

const run = (...args: string[]) => spawnSync(join(root, 'hack/certs.sh'), ['--out', out, ...args], { encoding: 'utf8' });
const read = (file: string) => readFileSync(join(out, file), 'utf8');

function make(...args: string[]): string {
  const { status, stdout, stderr } = run(...args);
  expect([status, stderr.includes('error')]).toEqual([0, false]);
  return stdout;
}

test('the certificate stands for the Service and the names given, and openssl and the hub accept it', () => {
  make('--ip', '192.0.2.10', '--ip=2001:db8::1', '--dns', 'hub.example.com', '--days', '100');
  const verified = execFileSync(
    'openssl',
    [
      'verify',
      '-CAfile',
      join(out, 'ca.crt'),
      '-purpose',
      'sslserver',
      '-verify_hostname',
      'fairlead-hub.fairlead-system.svc',
      join(out, 'tls.crt'),
    ],
    { encoding: 'utf8' },
  );
  expect(verified.trim()).toBe(`${join(out, 'tls.crt')}: OK`);
  const names = ['fairlead-hub.fairlead-system.svc', 'fairlead-hub.fairlead-system.svc.cluster.local', 'localhost', '127.0.0.1'];
  expect(coversNames(read('tls.crt'), [...names, '192.0.2.10', '2001:db8::1', 'hub.example.com'])).toBe(true);
  expect(coversNames(read('tls.crt'), ['192.0.2.11'])).toBe(false);
  checkPair({ cert: read('tls.crt'), key: read('tls.key') });
  expect(isServable(read('tls.crt'), read('ca.crt'), new Date())).toBe(true);
  const days = (new X509Certificate(read('tls.crt')).validToDate.getTime() - Date.now()) / 86_400_000;
  expect(Math.round(days)).toBe(100);
  expect(new X509Certificate(read('tls.crt')).ca).toBe(false);
});

test('the caBundle is one line of base64, printed and written', () => {
  const printed = make();
  expect(printed).toBe(read('caBundle.txt'));
  expect(printed).toMatch(/^[A-Za-z0-9+/]+=*\n$/);
  expect(Buffer.from(printed, 'base64').toString('utf8')).toBe(read('ca.crt'));
});

test('only the owner can read the keys', () => {
  make();
  for (const file of ['ca.key', 'tls.key']) expect(statSync(join(out, file)).mode & 0o777).toBe(0o600);
});

test('a second run changes nothing; other names change the certificate and keep the CA', () => {
  const all = ['ca.crt', 'ca.key', 'tls.crt', 'tls.key', 'caBundle.txt'];
  make('--ip', '192.0.2.10');
  const first = all.map(read);
  make('--ip', '192.0.2.10');
  expect(all.map(read)).toEqual(first);
  make('--ip', '192.0.2.11', '--name', 'other', '--namespace', 'elsewhere');
  expect(all.map((file, i) => read(file) === first[i])).toEqual([true, true, false, false, true]);
  expect(coversNames(read('tls.crt'), ['other.elsewhere.svc', '192.0.2.11'])).toBe(true);
  expect(isServable(read('tls.crt'), read('ca.crt'), new Date())).toBe(true);
});

test('a certificate without its own key, or without its CA, is made anew', () => {
  make();
  const key = read('tls.key');
  rmSync(join(out, 'tls.key'));
  make();
  expect(read('tls.key')).not.toBe(key);
  checkPair({ cert: read('tls.crt'), key: read('tls.key') });
  rmSync(join(out, 'ca.key'));
  make();
  expect(isServable(read('tls.crt'), read('ca.crt'), new Date())).toBe(true);
});

test.each([
  ['--ip', '192.0.2'],
  ['--ip', '1.2.3.4,DNS:evil.example.com'],
  ['--dns', 'a.example.com\nbasicConstraints=CA:TRUE'],
  ['--dns', 'UPPER'],
  ['--name', 'a b'],
  ['--namespace', ''],
  ['--days', '0'],
  ['--days', '1;id'],
  ['--unknown', 'x'],
  ['--ip'],
])('%s %j is refused before anything is written', (...args) => {
  const { status, stdout, stderr } = run(...args);
  expect([status, stdout]).toEqual([2, '']);
  expect(stderr).toContain('hack/certs.sh: ');
  expect(() => statSync(join(out, 'ca.crt'))).toThrow();
});
