import * as x509 from '../../src/hub/certificates/x509.ts';

/** A certificate and its private key, PEM. */
export type Certificate = { certificate: string; key: string };
/** As `Certificate`, and it may sign others. */
export type Authority = Certificate;

export type CertificateRequest = Pick<x509.IssueOptions, 'commonName' | 'organizations' | 'altNames'> & {
  usages: ReadonlyArray<'serverAuth' | 'clientAuth'>;
  /** Default: five minutes ago. */
  notBefore?: Date;
  /** Default: in a year. */
  notAfter?: Date;
};

function issue(options: Omit<x509.IssueOptions, 'notBefore' | 'notAfter'> & { notBefore?: Date; notAfter?: Date }): Certificate {
  const dates = { notBefore: new Date(Date.now() - 300_000), notAfter: new Date(Date.now() + 365 * 24 * 3600 * 1000) };
  const { cert, key } = x509.issueCertificate({ ...dates, ...options });
  return { certificate: cert, key };
}

/** A self-signed authority, valid for a year. */
export function createAuthority(commonName: string): Authority {
  return issue({ commonName, ca: true });
}

/** A leaf certificate of `authority` with a key of its own. */
export function issueCertificate(authority: Authority, request: CertificateRequest): Certificate {
  return issue({ ...request, issuer: { cert: authority.certificate, key: authority.key } });
}
