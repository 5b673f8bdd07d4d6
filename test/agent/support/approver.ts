import { randomUUID } from 'node:crypto';
import type { ClusterRegistrationRequest } from '../../../src/kube/clusternet.ts';
import { CLUSTERS_API } from '../../../src/kube/clusternet.ts';
import { seal } from '../../../src/tunnel/seal.ts';
import type { KubeApi } from '../../support/kube-api.ts';

export const REQUESTS = `${CLUSTERS_API}/clusterregistrationrequests`;
export const BOOTSTRAP = 'abcdef.0123456789abcdef';
export const GROUPS = ['system:bootstrappers', 'system:bootstrappers:clusternet:register-cluster-token', 'system:authenticated'];

/** A token with the claims that a kube-apiserver's has, and no signature. */
export const madeToken = (seconds: number, now = Date.now()): string =>
  `e30.${Buffer.from(JSON.stringify({ iat: Math.floor(now / 1_000), exp: Math.floor(now / 1_000) + seconds, jti: randomUUID() })).toString('base64url')}.x`;

export type Approver = {
  /** Tokens that the parent accepts. */
  tokens: Set<string>;
  issued: string[];
  /** What a new request gets; default Approved. */
  policy: { result: 'Approved' | 'Pending' | 'Denied'; message?: string };
  /** How long the next tokens live; those after them live an hour. */
  lives: number[];
  /** Answers all requests again, by the policy. */
  look(): void;
};

/** Makes an in-memory API a parent: it accepts known tokens only, and answers registration requests as the hub does. */
export function approver(api: KubeApi): Approver {
  const state: Approver = { tokens: new Set([BOOTSTRAP]), issued: [], policy: { result: 'Approved' }, lives: [], look };

  function answer(request: ClusterRegistrationRequest): void {
    const { spec, status } = request;
    const { result, message } = state.policy;
    if (status?.result === result && status.renewal === (spec.renewal ?? '')) return;
    if (result !== 'Approved') {
      api.put(REQUESTS, { ...request, status: { result, errorMessage: message ?? '' } });
      return;
    }
    const token = madeToken(state.lives.shift() ?? 3_600);
    state.tokens.add(token);
    state.issued.push(token);
    api.put(REQUESTS, {
      ...request,
      status: {
        result,
        dedicatedNamespace: 'clusternet-abcde',
        managedClusterName: spec.clusterName,
        caCertificate: Buffer.from('PEM').toString('base64'),
        renewal: spec.renewal ?? '',
        ...(spec.sealingKey
          ? { sealedToken: seal(spec.sealingKey, token, spec.clusterId) }
          : { token: Buffer.from(token).toString('base64') }),
      },
    });
  }
  function look(): void {
    for (const request of api.all(REQUESTS)) answer(request as unknown as ClusterRegistrationRequest);
  }

  api.onReview(() => ({ userInfo: { groups: GROUPS } }));
  api.fault(({ headers, method, path }) => {
    const token = /^Bearer (.+)$/.exec(headers.authorization ?? '')?.[1] ?? '';
    if (!state.tokens.has(token))
      return { code: 401, body: { kind: 'Status', status: 'Failure', code: 401, reason: 'Unauthorized', message: 'Unauthorized' } };
    if (method !== 'GET' && path.startsWith(REQUESTS)) setImmediate(look);
    return undefined;
  });
  return state;
}
