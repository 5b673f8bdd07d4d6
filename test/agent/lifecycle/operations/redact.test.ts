import { expect, test } from 'vitest';
import { redactor } from '../../../../src/agent/lifecycle/operations/redact.ts';

const clean = redactor(() => ['given']);

test.each([
  ['kubeadm join 1.2.3.4:6443 --token abcdef.0123456789abcdef', 'abcdef.0123456789abcdef'],
  ['--certificate-key 9f2c4e', '9f2c4e'],
  ['    client-key-data: LS0tLS1CRUdJTg==', 'LS0tLS1CRUdJTg'],
  ['Authorization: Bearer abc.def-ghi_jkl', 'abc.def-ghi_jkl'],
  ['{"password": "hunter22"}', 'hunter22'],
  ['https://user:hunter22@registry.example/v2', 'hunter22'],
  ['eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.c2ln', 'c2ln'],
  ['-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----', 'MIIabc'],
  ['K10c0ffee00c0ffee00c0ffee::server:abc', 'server:abc'],
  ['it was given', 'given'],
])('%s: the secret is gone', (text, secret) => {
  expect(clean(text)).not.toContain(secret);
  expect(clean(text)).toContain('(hidden)');
});

test('ordinary words stay', () => {
  const text =
    'wait: node edge-1 to be Ready: sha256:3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 registry.k8s.io/pause:3.10.2';
  expect(clean(text)).toBe(text);
});
