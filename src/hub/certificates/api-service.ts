import type { KubeClient } from '../../kube/client.ts';
import { isConflict, isNotFound } from '../../kube/errors.ts';
import { includesBundle, mergeBundles } from './generate.ts';

type APIService = {
  metadata: { resourceVersion: string };
  spec: { service?: object | null; caBundle?: string; insecureSkipTLSVerify?: boolean };
};

/**
 * Makes kube-aggregator trust every CA of the bundle for one APIService. False when there is no such APIService (it may be applied after the hub).
 * Rejects when it cannot be read or written. The write names the version that was read, so that two replicas do not undo each other.
 */
export async function trustBundle(client: KubeClient, name: string, bundle: string, signal: AbortSignal): Promise<boolean> {
  const path = `/apis/apiregistration.k8s.io/v1/apiservices/${name}`;
  for (let attempt = 0; ; attempt++) {
    try {
      const { metadata, spec } = await client.request<APIService>({ path, signal });
      if (!spec.service) return false;
      const present = Buffer.from(spec.caBundle ?? '', 'base64').toString('utf8');
      if (includesBundle(present, bundle) && !spec.insecureSkipTLSVerify) return true;
      const caBundle = Buffer.from(mergeBundles(bundle, present, new Date())).toString('base64');
      const body = { metadata: { resourceVersion: metadata.resourceVersion }, spec: { caBundle, insecureSkipTLSVerify: false } };
      await client.request({ method: 'PATCH', path, body, contentType: 'application/merge-patch+json', signal });
      return true;
    } catch (error) {
      if (isNotFound(error)) return false;
      if (!isConflict(error) || attempt >= 5) throw error;
    }
  }
}
