import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';
import { isIP } from 'node:net';

/** A certificate authority: PEM certificate and its private key (EC P-256). */
export type Authority = { certificate: string; key: string; name: Subject };
export type Subject = { commonName: string; organizations?: readonly string[] };
export type Certificate = { certificate: string; key: string };

export type CertificateRequest = Subject & {
  usages: ReadonlyArray<'serverAuth' | 'clientAuth'>;
  dnsNames?: readonly string[];
  ipAddresses?: readonly string[];
  /** Default: five minutes ago. */
  notBefore?: Date;
  /** Default: in a year. */
  notAfter?: Date;
};

const year = 365 * 24 * 3600 * 1000;

function der(tag: number, ...content: Buffer[]): Buffer {
  const body = Buffer.concat(content);
  const bytes: number[] = [];
  for (let rest = body.length; rest > 0; rest >>>= 8) bytes.unshift(rest & 0xff);
  const length = body.length < 0x80 ? [body.length] : [0x80 | bytes.length, ...bytes];
  return Buffer.concat([Buffer.from([tag, ...length]), body]);
}

const sequence = (...content: Buffer[]) => der(0x30, ...content);
const set = (...content: Buffer[]) => der(0x31, ...content);
const integer = (bytes: Buffer) => der(0x02, bytes);
const octets = (bytes: Buffer) => der(0x04, bytes);
const bits = (bytes: Buffer, unused = 0) => der(0x03, Buffer.from([unused]), bytes);
const utf8 = (text: string) => der(0x0c, Buffer.from(text, 'utf8'));
const yes = der(0x01, Buffer.from([0xff]));

function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  const bytes = [first * 40 + second];
  for (const arc of rest) {
    const groups = [arc & 0x7f];
    for (let high = arc >>> 7; high > 0; high >>>= 7) groups.unshift((high & 0x7f) | 0x80);
    bytes.push(...groups);
  }
  return der(0x06, Buffer.from(bytes));
}

const ecdsaWithSHA256 = sequence(oid('1.2.840.10045.4.3.2'));

function distinguishedName({ commonName, organizations = [] }: Subject): Buffer {
  const attribute = (type: string, value: string) => set(sequence(oid(type), utf8(value)));
  return sequence(...organizations.map((o) => attribute('2.5.4.10', o)), attribute('2.5.4.3', commonName));
}

function time(date: Date): Buffer {
  const text = date.toISOString().replace(/[-:T]|\.\d+/g, '');
  return date.getUTCFullYear() < 2050 ? der(0x17, Buffer.from(text.slice(2))) : der(0x18, Buffer.from(text));
}

function extension(id: string, critical: boolean, value: Buffer): Buffer {
  return sequence(oid(id), ...(critical ? [yes] : []), octets(value));
}

function addressBytes(address: string): Buffer {
  if (isIP(address) !== 4) throw new Error(`only IPv4 addresses can be put in a lab certificate, not ${address}`);
  return Buffer.from(address.split('.').map(Number));
}

function subjectKeyID(publicKey: KeyObject): Buffer {
  const { x = '', y = '' } = publicKey.export({ format: 'jwk' });
  return createHash('sha1')
    .update(Buffer.concat([Buffer.from([4]), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')]))
    .digest();
}

type ToSign = {
  issuer: Subject;
  signer: KeyObject;
  subject: Subject;
  publicKey: KeyObject;
  notBefore: Date;
  notAfter: Date;
  extensions: Buffer[];
};

function signed(request: ToSign): string {
  const serial = randomBytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x3f) | 0x40;
  const keyIDs = [
    extension('2.5.29.14', false, octets(subjectKeyID(request.publicKey))),
    extension('2.5.29.35', false, sequence(der(0x80, subjectKeyID(createPublicKey(request.signer))))),
  ];
  const body = sequence(
    der(0xa0, integer(Buffer.from([2]))),
    integer(serial),
    ecdsaWithSHA256,
    distinguishedName(request.issuer),
    sequence(time(request.notBefore), time(request.notAfter)),
    distinguishedName(request.subject),
    request.publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(...request.extensions, ...keyIDs)),
  );
  const certificate = sequence(body, ecdsaWithSHA256, bits(sign('sha256', body, request.signer)));
  const lines = certificate.toString('base64').replace(/.{64}(?=.)/g, '$&\n');
  return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`;
}

/** A new EC P-256 key pair: the private key as PEM (PKCS #8), the public one as PEM (SPKI). */
export function createKey(): { key: string; publicKey: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    publicKey: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
  };
}

/** A self-signed authority, valid for a year. */
export function createAuthority(commonName: string): Authority {
  const { key } = createKey();
  const signer = createPrivateKey(key);
  const name = { commonName };
  const certificate = signed({
    issuer: name,
    signer,
    subject: name,
    publicKey: createPublicKey(signer),
    notBefore: new Date(Date.now() - 300_000),
    notAfter: new Date(Date.now() + year),
    extensions: [
      extension('2.5.29.19', true, sequence(yes)),
      // keyCertSign and cRLSign
      extension('2.5.29.15', true, bits(Buffer.from([0x06]), 1)),
    ],
  });
  return { certificate, key, name };
}

/** A leaf certificate of `authority` with a key of its own. Throws for an IPv6 address. */
export function issueCertificate(authority: Authority, request: CertificateRequest): Certificate {
  const { key } = createKey();
  const purpose = { serverAuth: '1.3.6.1.5.5.7.3.1', clientAuth: '1.3.6.1.5.5.7.3.2' };
  const names = [
    ...(request.dnsNames ?? []).map((name) => der(0x82, Buffer.from(name, 'ascii'))),
    ...(request.ipAddresses ?? []).map((address) => der(0x87, addressBytes(address))),
  ];
  const extensions = [
    extension('2.5.29.19', true, sequence()),
    // digitalSignature
    extension('2.5.29.15', true, bits(Buffer.from([0x80]), 7)),
    extension('2.5.29.37', false, sequence(...request.usages.map((usage) => oid(purpose[usage])))),
    ...(names.length > 0 ? [extension('2.5.29.17', false, sequence(...names))] : []),
  ];
  const certificate = signed({
    issuer: authority.name,
    signer: createPrivateKey(authority.key),
    subject: request,
    publicKey: createPublicKey(createPrivateKey(key)),
    notBefore: request.notBefore ?? new Date(Date.now() - 300_000),
    notAfter: request.notAfter ?? new Date(Date.now() + year),
    extensions,
  });
  return { certificate, key };
}
