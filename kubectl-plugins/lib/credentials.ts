import { readFileSync } from 'node:fs';
import { type ExecCredential, execCredential } from './exec-credential.ts';
import type { Access } from './kubeconfig.ts';

/** What goes on the wire to prove who calls. */
export type Credentials = {
  authorization?: string;
  /** PEM. */
  certificate?: string | Buffer;
  key?: string | Buffer;
};

export type CredentialSource = {
  /** Reads files and runs the exec plugin anew when that is due. Throws an Error that says what is missing. */
  current(): Promise<Credentials>;
  /** The server refused them: the next call asks the exec plugin again. False when asking again cannot help. */
  refused(): boolean;
};

/** An exec plugin's answer is not used in its last seconds, so that it does not run out on the way. */
const MARGIN_MS = 10_000;

/** The credentials of one kubeconfig user. `interactive` says whether an exec plugin may read the terminal. */
export function credentialSource(access: Access, interactive: boolean, signal?: AbortSignal): CredentialSource {
  const { user, cluster } = access;
  let answered: ExecCredential | undefined;

  async function fromPlugin(): Promise<Credentials> {
    const expires = answered?.expirationTimestamp ? Date.parse(answered.expirationTimestamp) : Number.POSITIVE_INFINITY;
    if (!answered || expires - MARGIN_MS < Date.now()) answered = await execCredential(user.exec ?? {}, cluster, interactive, signal);
    return {
      ...(answered.token && { authorization: `Bearer ${answered.token}` }),
      ...(answered.clientCertificateData && { certificate: answered.clientCertificateData }),
      ...(answered.clientKeyData && { key: answered.clientKeyData }),
    };
  }

  return {
    async current() {
      const certificate = material(user['client-certificate-data'], user['client-certificate']);
      const key = material(user['client-key-data'], user['client-key']);
      const own: Credentials = { ...(certificate && { certificate }), ...(key && { key }) };
      // The file may be renewed while we wait: it wins over a token written beside it, and is read each time.
      if (user.tokenFile) return { ...own, authorization: `Bearer ${readFileSync(user.tokenFile, 'utf8').trim()}` };
      if (user.token) return { ...own, authorization: `Bearer ${user.token}` };
      if (user.username) {
        return { ...own, authorization: `Basic ${Buffer.from(`${user.username}:${user.password ?? ''}`).toString('base64')}` };
      }
      if (user.exec) return { ...own, ...(await fromPlugin()) };
      if (user['auth-provider']) return { ...own, authorization: `Bearer ${oidcToken(user['auth-provider'])}` };
      return own;
    },
    refused() {
      if (!answered) return false;
      answered = undefined;
      return true;
    },
  };
}

/** Data in the kubeconfig wins over a file named beside it, as with kubectl. */
function material(data: string | undefined, file: string | undefined): Buffer | undefined {
  if (data) return Buffer.from(data, 'base64');
  return file ? readFileSync(file) : undefined;
}

/** The id-token of the provider `oidc`. It is not renewed here: the refresh token changes with it, and kubectl is the one that stores both. */
function oidcToken(provider: { name: string; config?: Record<string, string> | null }): string {
  if (provider.name !== 'oidc') {
    throw new Error(`kubeconfig: the auth provider "${provider.name}" was removed from kubectl; use its exec plugin instead`);
  }
  const token = provider.config?.['id-token'];
  if (!token) throw new Error('kubeconfig: the auth provider oidc has no id-token; run any kubectl command to sign in');
  const expires = expiry(token);
  if (expires !== undefined && expires < Date.now()) {
    throw new Error(
      'kubeconfig: the OIDC id-token has expired; run any kubectl command (for example kubectl version) to renew it, then repeat',
    );
  }
  return token;
}

function expiry(token: string): number | undefined {
  try {
    const claims: unknown = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8'));
    const exp = typeof claims === 'object' && claims !== null && 'exp' in claims ? claims.exp : undefined;
    return typeof exp === 'number' ? exp * 1000 : undefined;
  } catch {
    return undefined;
  }
}
