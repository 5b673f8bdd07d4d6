import {
  createCipheriv,
  createDecipheriv,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
} from 'node:crypto';

/** A key pair that credentials can be sealed to: X25519, DER in base64 (SPKI and PKCS #8). */
export type SealingKeys = { publicKey: string; privateKey: string };

export function sealingKeys(): SealingKeys {
  const { publicKey, privateKey } = generateKeyPairSync('x25519');
  return {
    publicKey: publicKey.export({ type: 'spki', format: 'der' }).toString('base64'),
    privateKey: privateKey.export({ type: 'pkcs8', format: 'der' }).toString('base64'),
  };
}

const PUBLIC_BYTES = 44;
const TAG_BYTES = 16;

/** One key for one message: both public keys go into it, so that neither can be exchanged. The nonce may then be constant. */
function messageKey(secret: Buffer, ephemeral: Buffer, recipient: Buffer): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, Buffer.concat([ephemeral, recipient]), 'fairlead seal v1', 32));
}
const NONCE = Buffer.alloc(12);

function x25519Public(der: Buffer) {
  const key = createPublicKey({ key: der, type: 'spki', format: 'der' });
  if (key.asymmetricKeyType !== 'x25519') throw new Error('the sealing key is not an X25519 key');
  return key;
}

/**
 * Seals `text` so that only the owner of the private key reads it: ephemeral X25519, HKDF-SHA256, AES-256-GCM; `context` (the cluster id) is
 * authenticated with it. Base64 of the ephemeral key (SPKI, 44 bytes), the tag (16) and the ciphertext. Throws when the key is no X25519 key.
 */
export function seal(publicKey: string, text: string, context: string): string {
  const recipientDer = Buffer.from(publicKey, 'base64');
  const recipient = x25519Public(recipientDer);
  const ephemeral = generateKeyPairSync('x25519');
  const ephemeralDer = ephemeral.publicKey.export({ type: 'spki', format: 'der' });
  const secret = diffieHellman({ privateKey: ephemeral.privateKey, publicKey: recipient });
  const cipher = createCipheriv('aes-256-gcm', messageKey(secret, ephemeralDer, recipientDer), NONCE);
  cipher.setAAD(Buffer.from(context));
  const sealed = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()]);
  return Buffer.concat([ephemeralDer, cipher.getAuthTag(), sealed]).toString('base64');
}

/** What was sealed. Throws an Error when it was not sealed to this key, not for this context, or was changed. */
export function unseal(keys: SealingKeys, sealed: string, context: string): string {
  const bytes = Buffer.from(sealed, 'base64');
  if (bytes.length < PUBLIC_BYTES + TAG_BYTES) throw new Error('the sealed text is too short');
  const ephemeralDer = bytes.subarray(0, PUBLIC_BYTES);
  const privateKey = createPrivateKey({ key: Buffer.from(keys.privateKey, 'base64'), type: 'pkcs8', format: 'der' });
  const secret = diffieHellman({ privateKey, publicKey: x25519Public(ephemeralDer) });
  const decipher = createDecipheriv('aes-256-gcm', messageKey(secret, ephemeralDer, Buffer.from(keys.publicKey, 'base64')), NONCE);
  decipher.setAAD(Buffer.from(context));
  decipher.setAuthTag(bytes.subarray(PUBLIC_BYTES, PUBLIC_BYTES + TAG_BYTES));
  return decipher.update(bytes.subarray(PUBLIC_BYTES + TAG_BYTES), undefined, 'utf8') + decipher.final('utf8');
}
