import { randomInt } from 'node:crypto';
import { isConflict } from '../../src/kube/errors.ts';
import type { Api } from './api.ts';

/** Group whose members may ask for registration, in clusternet as here. deploy/crds binds it. */
export const REGISTRATION_GROUP = 'system:bootstrappers:clusternet:register-cluster-token';

export type BootstrapToken = {
  /** The Secret in kube-system. */
  secret: string;
  /** `id.secret`: what a cluster signs in with. */
  token: string;
  /** RFC 3339. */
  expires: string;
};

const LETTERS = 'abcdefghijklmnopqrstuvwxyz0123456789';
const random = (length: number) => Array.from({ length }, () => LETTERS[randomInt(LETTERS.length)]).join('');
const ATTEMPTS = 3;

/**
 * Makes a bootstrap token by which clusters can ask for registration until it ends, and nothing else.
 * https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/
 * Throws KubeError, KubeUnreachableError.
 */
export async function createBootstrapToken(
  api: Api,
  options: { lifetimeMs: number; description: string; dryRun: boolean; signal: AbortSignal },
): Promise<BootstrapToken> {
  for (let attempt = 1; ; attempt++) {
    const [id, secret] = [random(6), random(16)];
    const name = `bootstrap-token-${id}`;
    const expires = new Date(Date.now() + options.lifetimeMs).toISOString().replace(/\.\d+Z$/, 'Z');
    try {
      await api.ask({
        method: 'POST',
        path: '/api/v1/namespaces/kube-system/secrets',
        query: { fieldManager: 'kubectl-infra', dryRun: options.dryRun ? 'All' : undefined },
        body: {
          apiVersion: 'v1',
          kind: 'Secret',
          metadata: { name, namespace: 'kube-system', labels: { 'app.kubernetes.io/managed-by': 'kubectl-infra' } },
          type: 'bootstrap.kubernetes.io/token',
          stringData: {
            description: options.description,
            'token-id': id,
            'token-secret': secret,
            expiration: expires,
            'usage-bootstrap-authentication': 'true',
            'auth-extra-groups': REGISTRATION_GROUP,
          },
        },
        signal: options.signal,
      });
      return { secret: name, token: `${id}.${secret}`, expires };
    } catch (error) {
      // The id is taken.
      if (attempt >= ATTEMPTS || !isConflict(error)) throw error;
    }
  }
}
