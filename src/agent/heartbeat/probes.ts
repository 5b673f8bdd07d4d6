import type { KubeClient } from '../../kube/client.ts';

/** What the child's API server says of itself. */
export type Probed = { k8sVersion: string; platform: string; healthz: boolean; livez: boolean; readyz: boolean };

const PROBE_MS = 5_000;

/** Asks version and health. Never throws: what does not answer is not healthy. */
export async function probe(client: KubeClient, signal: AbortSignal): Promise<Probed> {
  const healthy = async (path: string): Promise<boolean> => {
    try {
      // Not JSON: the code says all.
      const response = await client.stream({ path, signal, timeoutMs: PROBE_MS, headers: { accept: 'text/plain' } });
      response.on('error', () => undefined).resume();
      return true;
    } catch {
      return false;
    }
  };
  const version = client
    .request<{ gitVersion?: string; platform?: string }>({ path: '/version', signal, timeoutMs: PROBE_MS })
    .catch(() => ({ gitVersion: undefined, platform: undefined }));
  const [{ gitVersion = '', platform = '' }, healthz, livez, readyz] = await Promise.all([
    version,
    healthy('/healthz'),
    healthy('/livez'),
    healthy('/readyz'),
  ]);
  return { k8sVersion: gitVersion, platform, healthz, livez, readyz };
}
