import { X509Certificate } from 'node:crypto';

const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g;

/** All certificates of a PEM bundle, in order. Throws on one that cannot be read; text between them is ignored, other PEM blocks too. */
export function parseBundle(bundle: string): X509Certificate[] {
  return (bundle.match(PEM_CERTIFICATE) ?? []).map((block) => new X509Certificate(block));
}

/** Whether `date` is within the certificate's validity. */
export function isValidAt(certificate: X509Certificate, date: Date): boolean {
  return certificate.validFromDate <= date && date <= certificate.validToDate;
}
