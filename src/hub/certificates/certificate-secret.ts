import type { KubeClient } from '../../kube/client.ts';
import { isConflict, isNotFound } from '../../kube/errors.ts';
import { checkPair } from './files.ts';
import type { ServingPair } from './serving.ts';

/** What the Secret holds. `next` is waiting for everybody to trust its CA, which is in `caBundle` already. */
export type StoredCertificate = {
  resourceVersion: string;
  serving: ServingPair | undefined;
  next: ServingPair | undefined;
  caBundle: string;
};

type Secret = { metadata: { resourceVersion: string }; data?: Record<string, string | null> };
type Change = { serving?: ServingPair; next?: ServingPair | null; caBundle?: string };

/** The Secret in which all replicas share their serving certificate (type kubernetes.io/tls, plus `ca.crt`, `next-tls.crt` and `next-tls.key`). */
export type CertificateSecret = {
  /** undefined when there is no Secret. A pair that does not fit together counts as absent. */
  read(): Promise<StoredCertificate | undefined>;
  /** False when another replica was first. */
  create(content: { serving: ServingPair; caBundle: string }): Promise<boolean>;
  /** Changes what `before` was read as; false when another replica was first. */
  change(before: StoredCertificate, change: Change): Promise<boolean>;
};

const encode = (text: string) => Buffer.from(text, 'utf8').toString('base64');

function decode(data: Secret['data'], key: string): string {
  return Buffer.from(data?.[key] ?? '', 'base64').toString('utf8');
}

function readPair(data: Secret['data'], prefix: string): ServingPair | undefined {
  const pair = { cert: decode(data, `${prefix}tls.crt`), key: decode(data, `${prefix}tls.key`) };
  try {
    checkPair(pair);
    return pair;
  } catch {
    return undefined;
  }
}

function changedData({ serving, next, caBundle }: Change): Record<string, string | null> {
  return {
    ...(serving && { 'tls.crt': encode(serving.cert), 'tls.key': encode(serving.key) }),
    ...(next && { 'next-tls.crt': encode(next.cert), 'next-tls.key': encode(next.key) }),
    ...(next === null && { 'next-tls.crt': null, 'next-tls.key': null }),
    ...(caBundle !== undefined && { 'ca.crt': encode(caBundle) }),
  };
}

async function unlessConflict(write: Promise<unknown>): Promise<boolean> {
  try {
    await write;
    return true;
  } catch (error) {
    if (isConflict(error)) return false;
    throw error;
  }
}

export function certificateSecret(client: KubeClient, namespace: string, name: string, signal: AbortSignal): CertificateSecret {
  const collection = `/api/v1/namespaces/${namespace}/secrets`;
  return {
    async read() {
      try {
        const { metadata, data } = await client.request<Secret>({ path: `${collection}/${name}`, signal });
        return {
          resourceVersion: metadata.resourceVersion,
          serving: readPair(data, ''),
          next: readPair(data, 'next-'),
          caBundle: decode(data, 'ca.crt'),
        };
      } catch (error) {
        if (isNotFound(error)) return undefined;
        throw error;
      }
    },
    create(content) {
      const metadata = { name, namespace, labels: { 'app.kubernetes.io/managed-by': 'fairlead-hub' } };
      const body = { apiVersion: 'v1', kind: 'Secret', metadata, type: 'kubernetes.io/tls', data: changedData(content) };
      return unlessConflict(client.request({ method: 'POST', path: collection, body, signal }));
    },
    change(before, change) {
      const body = { metadata: { resourceVersion: before.resourceVersion }, data: changedData(change) };
      return unlessConflict(
        client.request({ method: 'PATCH', path: `${collection}/${name}`, body, contentType: 'application/merge-patch+json', signal }),
      );
    },
  };
}
