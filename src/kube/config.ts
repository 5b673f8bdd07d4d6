import { readFileSync } from 'node:fs';
import { KubeConfig } from '@kubernetes/client-node';

const NAMESPACE_FILE = '/var/run/secrets/kubernetes.io/serviceaccount/namespace';

/** Loads `file`, or the pod's own ServiceAccount when it is empty. Throws an Error that names the file. */
export function loadKubeConfig(file: string): KubeConfig {
  const config = new KubeConfig();
  if (file) {
    try {
      config.loadFromFile(file);
    } catch (error) {
      throw new Error(`kubeconfig ${file}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
    }
    return config;
  }
  if (!process.env['KUBERNETES_SERVICE_HOST']) {
    throw new Error('not in a cluster (KUBERNETES_SERVICE_HOST is not set) and no kubeconfig given: use --kubeconfig FILE');
  }
  config.loadFromCluster();
  return config;
}

/** The namespace of the pod that this process runs in; undefined outside a cluster. */
export function podNamespace(): string | undefined {
  try {
    return readFileSync(NAMESPACE_FILE, 'utf8').trim() || undefined;
  } catch {
    return undefined;
  }
}
