import { getCACertificates, setDefaultCACertificates } from 'node:tls';

let trusted = false;

/**
 * From here on this process trusts, wherever nobody names a CA, what the machine trusts: Node's own list, NODE_EXTRA_CA_CERTS, and the system's store, in which the CA of a company stands.
 * The store is read at the first call (some 70 ms), and not in agents that never need it. Given as `ca` for each connection, so many certificates would cost 30 ms each time.
 */
export function trustSystemCAs(): void {
  if (trusted) return;
  trusted = true;
  setDefaultCACertificates([...getCACertificates('default'), ...getCACertificates('system')]);
}
