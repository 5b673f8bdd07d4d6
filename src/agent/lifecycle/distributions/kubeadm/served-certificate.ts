import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { connect } from 'node:tls';
import type { Action } from '../../operations/step.ts';
import { parseKubeconfig } from '../common/kube-access.ts';
import { ADMIN_CONF, PKI } from './paths.ts';

const HANDSHAKE_MS = 5_000;

/** SHA-256 fingerprint of the certificate that a server shows. Only looks: nothing is sent to it. */
function shownFingerprint(host: string, port: number, ca: string, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, ca, ...(isIP(host) === 0 && { servername: host }) }, () => {
      resolve(socket.getPeerCertificate().fingerprint256);
      socket.destroy();
    });
    const end = () => socket.destroy(new Error('aborted'));
    signal.addEventListener('abort', end, { once: true });
    socket.setTimeout(HANDSHAKE_MS, () => socket.destroy(new Error('the API server does not shake hands')));
    socket.on('error', reject);
    socket.on('close', () => {
      signal.removeEventListener('abort', end);
      reject(new Error('the API server closed the connection'));
    });
  });
}

/** Waits until the API server shows the certificate that stands in its file. */
export const waitServedCertificate: Action = {
  kind: 'wait',
  text: 'the API server shows its new certificate',
  timeoutMs: 300_000,
  until: async (machine, signal) => {
    const [pem, kubeconfig] = [await machine.read(`${PKI}/apiserver.crt`), await machine.read(ADMIN_CONF)];
    if (!pem || !kubeconfig) throw new Error('the certificate or admin.conf is missing');
    const { server, ca } = parseKubeconfig(kubeconfig);
    const host = server.hostname.replace(/^\[|\]$/g, '');
    const shown = await shownFingerprint(host, Number(server.port || 443), ca, signal);
    if (shown !== new X509Certificate(pem).fingerprint256) throw new Error('it still shows another one');
    return true;
  },
};
