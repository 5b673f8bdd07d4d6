import { type Issued, type IssueOptions, issueCertificate } from '../../../src/hub/certificates/x509.ts';

const DAY = 86_400_000;
const dates = () => ({ notBefore: new Date(Date.now() - DAY), notAfter: new Date(Date.now() + DAY) });

export const makeCa = (commonName: string, issuer?: Issued): Issued =>
  issueCertificate({ ...dates(), commonName, ca: true, ...(issuer && { issuer }) });

export const makeClient = (issuer: Issued, commonName: string, options: Partial<IssueOptions> = {}): Issued =>
  issueCertificate({ ...dates(), commonName, usages: ['clientAuth'], issuer, ...options });

export const makeServer = (issuer: Issued, altNames = ['localhost', '127.0.0.1']): Issued =>
  issueCertificate({ ...dates(), commonName: 'server', usages: ['serverAuth'], altNames, issuer });
