import type { ClusterRegistrationRequest } from '../../kube/clusternet.ts';
import { type SealingKeys, unseal } from '../../tunnel/seal.ts';
import { type Credential, timeOf } from './store.ts';

/** What a JSON Web Token says of its times, in milliseconds since the epoch; it is not verified: it is our own credential. */
export function tokenTimes(token: string): { issuedAt: number; expiresAt: number } | undefined {
  try {
    const claims: unknown = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8'));
    if (typeof claims !== 'object' || claims === null || !('exp' in claims) || typeof claims.exp !== 'number') return undefined;
    const issued = 'iat' in claims && typeof claims.iat === 'number' ? claims.iat : claims.exp;
    return { issuedAt: issued * 1_000, expiresAt: claims.exp * 1_000 };
  } catch {
    return undefined;
  }
}

/**
 * The credential in an approved request: the sealed token, or the plain one of a parent that does not seal. Undefined while it has none. Throws an Error, which says
 * nothing of the token, when it was sealed to another key.
 */
export function credentialIn(
  request: ClusterRegistrationRequest,
  keys: SealingKeys,
  parentURL: string,
  now: number,
): Credential | undefined {
  const { status = {}, spec } = request;
  if (status.result !== 'Approved' || !status.dedicatedNamespace) return undefined;
  let token: string;
  if (status.sealedToken) {
    try {
      token = unseal(keys, status.sealedToken, spec.clusterId);
    } catch (error) {
      throw new SealedToAnotherKey(request.metadata.name, { cause: error });
    }
  } else if (status.token) token = Buffer.from(status.token, 'base64').toString('utf8').trim();
  else return undefined;
  if (token === '') return undefined;
  const times = tokenTimes(token);
  // By the local clock: only the difference is taken from the parent's.
  const expiresAt = times && times.expiresAt > times.issuedAt ? times.expiresAt : timeOf(status.tokenExpirationTimestamp);
  return {
    clusterId: spec.clusterId,
    parentURL,
    token,
    ca: status.caCertificate ? Buffer.from(status.caCertificate, 'base64').toString('utf8') : '',
    namespace: status.dedicatedNamespace,
    managedCluster: status.managedClusterName ?? request.metadata.labels?.['clusters.clusternet.io/cluster-name'] ?? '',
    obtainedAt: times?.issuedAt ?? now,
    expiresAt,
  };
}

/** The request was made with another key: only the owner of that key, or a person, can go on. */
export class SealedToAnotherKey extends Error {
  constructor(name: string, options?: ErrorOptions) {
    super(
      `the credentials in ClusterRegistrationRequest ${name} are sealed to another key than this agent's, which was lost or is a copy's: ` +
        `if this is the right agent, let somebody delete that request in the parent (kubectl delete clsrr ${name}), and it registers anew`,
      options,
    );
    this.name = 'SealedToAnotherKey';
  }
}

/** When to ask for the next token: after two thirds of the life of this one. Undefined: it never ends. */
export function renewalTime({ obtainedAt, expiresAt }: Credential): number | undefined {
  return expiresAt === undefined ? undefined : obtainedAt + ((expiresAt - obtainedAt) * 2) / 3;
}
