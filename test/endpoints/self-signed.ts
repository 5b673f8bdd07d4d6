import { issueCertificate } from '../../src/hub/certificates/x509.ts';

/** A key and a certificate for a host name, made now, good for an hour, followed by the CA that signed it: `cert` serves and can be trusted. PEM. */
export function selfSigned(host: string): { key: string; cert: string } {
  const dates = { notBefore: new Date(Date.now() - 60_000), notAfter: new Date(Date.now() + 3_600_000) };
  const issuer = issueCertificate({ ...dates, commonName: `CA of ${host}`, ca: true });
  const { key, cert } = issueCertificate({ ...dates, commonName: host, altNames: [host], usages: ['serverAuth'], issuer });
  return { key, cert: cert + issuer.cert };
}
