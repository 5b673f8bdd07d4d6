import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { type KubeAccess, plainAccess, podAccess } from './plain-config.ts';

const NAMESPACE_FILE = '/var/run/secrets/kubernetes.io/serviceaccount/namespace';

/**
 * Loads `file`, or the pod's own ServiceAccount when it is empty. Rejects with an Error that names the file. Kubernetes' own library does it where a kubeconfig needs a program, a
 * provider or a proxy; it takes 80 MiB of memory, which most processes never need.
 */
export async function loadKubeConfig(file: string): Promise<KubeAccess> {
  if (file) {
    try {
      const plain = plainAccess(await readFile(file, 'utf8'), dirname(file));
      if (plain) return plain;
      const { KubeConfig } = await import('@kubernetes/client-node');
      const config = new KubeConfig();
      config.loadFromFile(file);
      return config;
    } catch (error) {
      throw new Error(`kubeconfig ${file}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
    }
  }
  const pod = podAccess(process.env);
  if (!pod) throw new Error('not in a cluster (KUBERNETES_SERVICE_HOST is not set) and no kubeconfig given: use --kubeconfig FILE');
  return pod;
}

/** The namespace of the pod that this process runs in; undefined outside a cluster. */
export function podNamespace(): string | undefined {
  try {
    return readFileSync(NAMESPACE_FILE, 'utf8').trim() || undefined;
  } catch {
    return undefined;
  }
}
