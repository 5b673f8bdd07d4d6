import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign, X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { AsnConvert, OctetString } from '@peculiar/asn1-schema';
import {
  AlgorithmIdentifier,
  AttributeTypeAndValue,
  AttributeValue,
  AuthorityKeyIdentifier,
  BasicConstraints,
  Certificate,
  ExtendedKeyUsage,
  Extension,
  Extensions,
  GeneralName,
  id_ce_authorityKeyIdentifier,
  id_ce_basicConstraints,
  id_ce_extKeyUsage,
  id_ce_keyUsage,
  id_ce_subjectAltName,
  id_ce_subjectKeyIdentifier,
  id_kp_clientAuth,
  id_kp_serverAuth,
  KeyIdentifier,
  KeyUsage,
  KeyUsageFlags,
  Name,
  RelativeDistinguishedName,
  SubjectAlternativeName,
  SubjectKeyIdentifier,
  SubjectPublicKeyInfo,
  TBSCertificate,
  Validity,
  Version,
} from '@peculiar/asn1-x509';

/**
 * X.509 version 3 certificates (RFC 5280) on EC P-256 with SHA-256: Node makes the keys and signs, the ASN.1 library writes. Few programs need this file,
 * and the library takes memory, so the hub loads it only when it makes a certificate; reading is in bundle.ts.
 */
export type IssueOptions = {
  commonName: string;
  organizations?: readonly string[];
  /** DNS names and IP addresses. */
  altNames?: readonly string[];
  /** URIs, as further alternative names. */
  uris?: readonly string[];
  ca?: boolean;
  usages?: readonly ('clientAuth' | 'serverAuth')[];
  notBefore: Date;
  notAfter: Date;
  /** Signs, with an EC key; itself when absent. */
  issuer?: Issued;
};

/** A certificate and its key (PKCS #8), both PEM. */
export type Issued = { cert: string; key: string };

const COMMON_NAME = '2.5.4.3';
const ORGANIZATION = '2.5.4.10';
const ECDSA_WITH_SHA256 = '1.2.840.10045.4.3.2';
const USAGES = { clientAuth: id_kp_clientAuth, serverAuth: id_kp_serverAuth } as const;

function extension(id: string, value: unknown, critical = false): Extension {
  return new Extension({ extnID: id, critical, extnValue: new OctetString(AsnConvert.serialize(value)) });
}

function distinguishedName(commonName: string, organizations: readonly string[]): Name {
  const attribute = (type: string, utf8String: string) =>
    new RelativeDistinguishedName([new AttributeTypeAndValue({ type, value: new AttributeValue({ utf8String }) })]);
  return new Name([...organizations.map((name) => attribute(ORGANIZATION, name)), attribute(COMMON_NAME, commonName)]);
}

function generalName(name: string): GeneralName {
  if (!isIP(name)) return new GeneralName({ dNSName: name });
  // The library reads ::ffff:192.0.2.1 wrongly; a URL writes an IPv6 address without the dotted end.
  return new GeneralName({ iPAddress: isIP(name) === 4 ? name : new URL(`http://[${name}]`).hostname.slice(1, -1) });
}

const spkiOf = (publicKey: KeyObject) => publicKey.export({ type: 'spki', format: 'der' });

/** RFC 7093: the leftmost 160 bits of a SHA-256, because SHA-1 is not to be had in every OpenSSL. */
function keyId(publicKey: KeyObject): Buffer {
  return createHash('sha256').update(spkiOf(publicKey)).digest().subarray(0, 20);
}

/** 126 random bits, positive and always of the same length. */
function serialNumber(): ArrayBuffer {
  const serial = crypto.getRandomValues(new Uint8Array(16));
  serial[0] = ((serial[0] ?? 0) & 0x3f) | 0x40;
  return serial.buffer;
}

type Signer = { name: Name; key: KeyObject; keyId: ArrayBuffer | Uint8Array };

function signerOf({ cert, key }: Issued): Signer {
  const { subject, extensions } = AsnConvert.parse(new X509Certificate(cert).raw, Certificate).tbsCertificate;
  const privateKey = createPrivateKey(key);
  if (privateKey.asymmetricKeyType !== 'ec') throw new Error(`the key of the issuer must be EC, not ${privateKey.asymmetricKeyType}`);
  const named = extensions?.find(({ extnID }) => extnID === id_ce_subjectKeyIdentifier);
  // Another program's CA may have made its key identifier in another way.
  const id = named ? AsnConvert.parse(named.extnValue.buffer, SubjectKeyIdentifier).buffer : keyId(createPublicKey(privateKey));
  return { name: subject, key: privateKey, keyId: id };
}

function extensionsFor(options: IssueOptions, publicKey: KeyObject, signer: Signer): Extensions {
  const { ca = false, usages = [], altNames = [], uris = [] } = options;
  const names = [...altNames.map(generalName), ...uris.map((uri) => new GeneralName({ uniformResourceIdentifier: uri }))];
  const keyUsage = ca ? KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign : KeyUsageFlags.digitalSignature;
  return new Extensions([
    extension(id_ce_basicConstraints, new BasicConstraints({ cA: ca }), true),
    extension(id_ce_keyUsage, new KeyUsage(keyUsage), true),
    extension(id_ce_subjectKeyIdentifier, new SubjectKeyIdentifier(keyId(publicKey))),
    extension(id_ce_authorityKeyIdentifier, new AuthorityKeyIdentifier({ keyIdentifier: new KeyIdentifier(signer.keyId) })),
    ...(usages.length > 0 ? [extension(id_ce_extKeyUsage, new ExtendedKeyUsage(usages.map((usage) => USAGES[usage])))] : []),
    ...(names.length > 0 ? [extension(id_ce_subjectAltName, new SubjectAlternativeName(names))] : []),
  ]);
}

/** A new key pair and a certificate for it. Throws when the names or dates cannot be written, or `issuer` cannot be read or has no EC key. */
export function issueCertificate(options: IssueOptions): Issued {
  const { notBefore, notAfter, issuer } = options;
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const subject = distinguishedName(options.commonName, options.organizations ?? []);
  const signer = issuer ? signerOf(issuer) : { name: subject, key: privateKey, keyId: keyId(publicKey) };
  const signature = new AlgorithmIdentifier({ algorithm: ECDSA_WITH_SHA256 });
  const tbsCertificate = new TBSCertificate({
    version: Version.v3,
    serialNumber: serialNumber(),
    signature,
    issuer: signer.name,
    validity: new Validity({ notBefore, notAfter }),
    subject,
    subjectPublicKeyInfo: AsnConvert.parse(spkiOf(publicKey), SubjectPublicKeyInfo),
    extensions: extensionsFor(options, publicKey, signer),
  });
  const signatureValue = new Uint8Array(sign('sha256', new Uint8Array(AsnConvert.serialize(tbsCertificate)), signer.key)).buffer;
  const certificate = AsnConvert.serialize(new Certificate({ tbsCertificate, signatureAlgorithm: signature, signatureValue }));
  return {
    cert: new X509Certificate(Buffer.from(certificate)).toString(),
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}
