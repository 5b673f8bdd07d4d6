import type { KubeClient } from '../../kube/client.ts';
import { AGENT_ACCOUNT } from './names.ts';

/** A token of an agent's ServiceAccount. */
export type Credential = {
  token: string;
  /** RFC 3339. kube-apiserver may give less than was asked for. */
  expires: string;
  /** `JTI=...`, as kube-apiserver shows it in the extra `authentication.kubernetes.io/credential-id`; undefined when the token has no id. */
  id: string | undefined;
};

/** Asks for a token by TokenRequest. Throws KubeError, KubeUnreachableError. */
export async function requestToken(client: KubeClient, namespace: string, seconds: number, signal: AbortSignal): Promise<Credential> {
  const answer = await client.request<{ status: { token: string; expirationTimestamp: string } }>({
    method: 'POST',
    path: `/api/v1/namespaces/${namespace}/serviceaccounts/${AGENT_ACCOUNT}/token`,
    body: { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: { expirationSeconds: seconds } },
    signal,
  });
  const { token, expirationTimestamp } = answer.status;
  return { token, expires: expirationTimestamp, id: credentialID(token) };
}

/** The credential id of a JWT, from its claim `jti`. Nothing is verified: the token comes from the API server. */
export function credentialID(token: string): string | undefined {
  try {
    const claims: unknown = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8'));
    if (typeof claims !== 'object' || claims === null || !('jti' in claims)) return undefined;
    return typeof claims.jti === 'string' && claims.jti !== '' ? `JTI=${claims.jti}` : undefined;
  } catch {
    return undefined;
  }
}
