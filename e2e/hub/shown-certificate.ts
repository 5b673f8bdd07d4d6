import type { X509Certificate } from 'node:crypto';
import { connect } from 'node:tls';

/** The serving certificate that a server shows to a new connection. */
export function shownCertificate({ ip, port }: { ip: string; port: number }): Promise<X509Certificate> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: ip, port, rejectUnauthorized: false }, () => {
      const certificate = socket.getPeerX509Certificate();
      socket.destroy();
      if (certificate) resolve(certificate);
      else reject(new Error('no certificate was shown'));
    });
    socket.once('error', reject);
  });
}
