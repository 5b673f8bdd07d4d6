import { stringify } from 'yaml';
import { parseDuration } from '../../../../kube/flags.ts';
import type { ClusterSpec } from '../../../../kube/lifecycle.ts';
import { nodeName } from '../common/node-state.ts';
import { REGISTRY_CA } from './paths.ts';

const DAY_MS = 86_400_000;
const yaml = (value: object) => stringify(value, { lineWidth: 0 });

/** Text of config.yaml (https://docs.k3s.io/installation/configuration#configuration-file) for a complete spec. */
export function configFile(spec: ClusterSpec, hostname: string): string {
  const { networking, storage, apiServer, extraArgs } = spec;
  const args = Object.entries(extraArgs ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  const of = (component: string) =>
    args.filter(([name]) => name.startsWith(`${component}.`)).map(([name, value]) => [name.slice(component.length + 1), value] as const);
  const kubelet = of('kubelet').map(([flag, value]) => `${flag}=${value}`);
  const server = Object.fromEntries(of('server'));
  const disable = [...(storage?.clusterCsi?.name === 'none' ? ['local-storage'] : []), ...(server['disable']?.split(',') ?? [])];
  return yaml({
    'node-name': nodeName(hostname),
    'write-kubeconfig-mode': '0600',
    'cluster-cidr': networking?.podSubnet,
    'service-cidr': networking?.svcSubnet,
    ...(apiServer?.certSANs?.length && { 'tls-san': apiServer.certSANs }),
    // Never disable-agent: it would take the node away with flannel.
    ...(networking?.cniManifestURL && { 'flannel-backend': 'none', 'disable-network-policy': true }),
    ...(kubelet.length > 0 && { 'kubelet-arg': kubelet }),
    ...server,
    ...(disable.length > 0 && { disable }),
  });
}

/** Text of /etc/default/k3s; undefined when the spec asks for nothing that stands there. k3s takes the life of certificates, in days, from its environment. */
export function environmentFile({ certificates }: ClusterSpec): string | undefined {
  const ms = certificates?.validityPeriod ? parseDuration(certificates.validityPeriod) : undefined;
  return ms === undefined ? undefined : `CATTLE_NEW_SIGNED_CERT_EXPIRATION_DAYS=${Math.floor(ms / DAY_MS)}\n`;
}

/**
 * Text of registries.yaml (https://docs.k3s.io/installation/private-registry); undefined when the runtime is left as it is. The images of k3s itself are those of docker.io: they are asked
 * for at the private registry first.
 */
export function registriesFile({ clusterRuntime }: ClusterSpec, password: string | undefined): string | undefined {
  const cri = clusterRuntime?.clusterCri;
  const host = cri?.privateRegistryFQDN;
  if (!clusterRuntime?.customiseClusterRuntime || !cri || !host) return undefined;
  const endpoint = cri.privateRegistryEndpoints?.length ? cri.privateRegistryEndpoints : [`https://${host}`];
  const auth = cri.registryAuth?.isAuthRequired ? { auth: { username: cri.registryAuth.username, password } } : {};
  const tls = { ...(cri.certFiles?.length && { ca_file: REGISTRY_CA }), ...(cri.skipTls && { insecure_skip_verify: true }) };
  const config = { ...auth, ...(Object.keys(tls).length > 0 && { tls }) };
  const hosts = [...new Set([host, ...endpoint.map((url) => new URL(url).host)])];
  return yaml({
    mirrors: { [host]: { endpoint }, 'docker.io': { endpoint } },
    ...(Object.keys(config).length > 0 && { configs: Object.fromEntries(hosts.map((name) => [name, config])) }),
  });
}
