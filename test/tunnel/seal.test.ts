import { generateKeyPairSync } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { seal, sealingKeys, unseal } from '../../src/tunnel/seal.ts';

const keys = sealingKeys();

test('what was sealed is opened with the key and the context, and not twice the same', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), fc.string({ unit: 'grapheme' }), (text, context) => {
      const sealed = seal(keys.publicKey, text, context);
      expect(sealed).toMatch(/^[A-Za-z0-9+/]+=*$/);
      expect(unseal(keys, sealed, context)).toBe(text);
      expect(seal(keys.publicKey, text, context)).not.toBe(sealed);
    }),
    { numRuns: 50 },
  );
});

test('another context or another key opens nothing', () => {
  const sealed = seal(keys.publicKey, 'secret', 'cluster-1');
  expect(() => unseal(keys, sealed, 'cluster-2')).toThrow();
  expect(() => unseal(keys, sealed, '')).toThrow();
  expect(() => unseal(sealingKeys(), sealed, 'cluster-1')).toThrow();
  // Both public keys are part of the message's key.
  expect(() => unseal({ ...keys, publicKey: sealingKeys().publicKey }, sealed, 'cluster-1')).toThrow();
});

test('any bit that was changed is noticed', () => {
  const bytes = Buffer.from(seal(keys.publicKey, 'a secret', 'c'), 'base64');
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const changed = Buffer.from(bytes);
    changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    expect(() => unseal(keys, changed.toString('base64'), 'c'), `bit ${bit}`).toThrow();
  }
});

test('text that was cut, lengthened or is none is refused', () => {
  const sealed = Buffer.from(seal(keys.publicKey, 'a secret', 'c'), 'base64');
  for (let length = 0; length < sealed.length; length++)
    expect(() => unseal(keys, sealed.subarray(0, length).toString('base64'), 'c'), `${length} bytes`).toThrow();
  expect(() => unseal(keys, Buffer.concat([sealed, Buffer.of(0)]).toString('base64'), 'c')).toThrow();
  fc.assert(
    fc.property(fc.oneof(fc.base64String(), fc.string()), (text) => {
      expect(() => unseal(keys, text, 'c')).toThrow();
    }),
  );
});

test('keys of other kinds are refused, and so is the point that gives everybody the same secret', () => {
  for (const pair of [generateKeyPairSync('ed25519'), generateKeyPairSync('x448'), generateKeyPairSync('ec', { namedCurve: 'P-256' })]) {
    const der = pair.publicKey.export({ type: 'spki', format: 'der' }).toString('base64');
    expect(() => seal(der, 'secret', 'c')).toThrow();
  }
  expect(() => seal('', 'secret', 'c')).toThrow();
  expect(() => seal('bm8ga2V5', 'secret', 'c')).toThrow();
  const zero = Buffer.concat([Buffer.from(keys.publicKey, 'base64').subarray(0, 12), Buffer.alloc(32)]).toString('base64');
  expect(() => seal(zero, 'secret', 'c')).toThrow();
});

test('the errors do not hold the secret', () => {
  const sealed = seal(keys.publicKey, 'very-secret-text', 'c');
  for (const attempt of [() => unseal(keys, sealed, 'd'), () => unseal(keys, 'x', 'c'), () => seal('x', 'very-secret-text', 'c')]) {
    try {
      attempt();
      expect.unreachable();
    } catch (error) {
      expect(String(error)).not.toContain('very-secret-text');
      expect(String(error)).not.toContain(keys.privateKey);
    }
  }
});
