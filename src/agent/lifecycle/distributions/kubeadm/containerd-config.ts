import type { ClusterSpec } from '../../../../kube/lifecycle.ts';
import type { Facts } from '../../machine/machine.ts';
import { REGISTRY_FOLDER } from './paths.ts';
import { dropToml, getToml, setToml, tomlString } from './toml.ts';

/** What containerd's configuration needs to know. */
export type ContainerdWish = {
  /** Whether control groups are made through systemd. */
  systemdCgroup: boolean;
  pauseImage: string;
  restrictOomScore: boolean;
  registry: { host: string; auth: { username: string; password: string } | undefined } | undefined;
  /** Registry of the cluster before a patch, whose credentials must not stay. */
  formerHost?: string | undefined;
};

/** systemd makes the control groups where it can do that well: where it runs, on cgroup v2. */
export const cgroupDriver = (facts: Facts): 'systemd' | 'cgroupfs' =>
  facts.initSystem === 'systemd' && facts.cgroup === 2 ? 'systemd' : 'cgroupfs';

/** Where containerd's two generations keep the same settings. Source: containerd/docs/cri/config.md. */
const VERSION_2 = {
  runc: 'plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options',
  runtime: 'plugins."io.containerd.grpc.v1.cri"',
  cni: 'plugins."io.containerd.grpc.v1.cri".cni',
  registry: 'plugins."io.containerd.grpc.v1.cri".registry',
  pause: ['plugins."io.containerd.grpc.v1.cri"', 'sandbox_image'],
} as const;
const VERSION_3 = {
  runc: "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options",
  runtime: "plugins.'io.containerd.cri.v1.runtime'",
  cni: "plugins.'io.containerd.cri.v1.runtime'.cni",
  registry: "plugins.'io.containerd.cri.v1.images'.registry",
  pause: ["plugins.'io.containerd.cri.v1.images'.pinned_images", 'sandbox'],
} as const;

/** Containerd's whole configuration (as `containerd config dump` prints it, or '' where nothing is known) with what the cluster needs. */
export function containerdConfig(current: string, wish: ContainerdWish): string {
  let text = current.trim() ? current : 'version = 2\n';
  const places = getToml(text, '', 'version') === '3' ? VERSION_3 : VERSION_2;
  // The distribution's package may have switched the interface off that kubelet needs.
  const disabled = getToml(text, '', 'disabled_plugins');
  if (disabled?.includes('cri')) text = text.replace(/^disabled_plugins\s*=.*$/m, 'disabled_plugins = []');
  // What was imported is in here already; read again, it would win over what is set now. containerd lists even the file itself.
  text = text.replace(/^imports\s*=.*$/m, 'imports = []');
  text = setToml(text, places.runtime, 'restrict_oom_score_adj', String(wish.restrictOomScore));
  text = setToml(text, places.pause[0], places.pause[1], tomlString(wish.pauseImage));
  text = setToml(text, places.runc, 'SystemdCgroup', String(wish.systemdCgroup));
  if (getToml(text, places.cni, 'bin_dirs') !== undefined) text = setToml(text, places.cni, 'bin_dirs', '["/opt/cni/bin"]');
  else text = setToml(text, places.cni, 'bin_dir', '"/opt/cni/bin"');
  text = setToml(text, places.cni, 'conf_dir', '"/etc/cni/net.d"');
  if (wish.formerHost) text = dropToml(text, `${places.registry}.configs.${tomlString(wish.formerHost)}`);
  if (wish.registry) text = withRegistry(text, places.registry, wish.registry);
  return text.endsWith('\n') ? text : `${text}\n`;
}

function withRegistry(current: string, table: string, registry: NonNullable<ContainerdWish['registry']>): string {
  // Containerd refuses config_path beside mirrors, be they empty.
  let text = dropToml(current, `${table}.mirrors`);
  const folders = tomlText(getToml(text, table, 'config_path'))
    .split(':')
    .filter(Boolean);
  const all = folders.includes(REGISTRY_FOLDER) ? folders : [...folders, REGISTRY_FOLDER];
  text = setToml(text, table, 'config_path', tomlString(all.join(':')));
  const own = `${table}.configs.${tomlString(registry.host)}`;
  text = dropToml(text, own);
  if (!registry.auth) return text;
  text = setToml(text, `${own}.auth`, 'username', tomlString(registry.auth.username));
  return setToml(text, `${own}.auth`, 'password', tomlString(registry.auth.password));
}

/** Whether a configuration has mirrors or TLS settings in the older form, which cannot stand beside /etc/containerd/certs.d. */
export function hasOldRegistries(text: string): boolean {
  return /^\s*\[plugins\.["'][^\]]*["']\.registry\.(mirrors\.|configs\.[^\]]*\.tls\])/m.test(text);
}

const tomlText = (value: string | undefined) => (value ?? '').replace(/^["']|["']$/g, '');

/** The private registry of a spec; undefined without one. */
export function registryHost({ clusterRuntime }: ClusterSpec): string | undefined {
  return clusterRuntime?.customiseClusterRuntime ? clusterRuntime.clusterCri?.privateRegistryFQDN || undefined : undefined;
}

/** The files of /etc/containerd/certs.d for the private registry; empty without one. Paths are relative. Credentials are not among them. */
export function registryHosts(spec: ClusterSpec): { path: string; content: string }[] {
  const { clusterCri } = spec.clusterRuntime ?? {};
  const host = registryHost(spec);
  if (!clusterCri || !host) return [];
  const endpoints = clusterCri.privateRegistryEndpoints?.length ? clusterCri.privateRegistryEndpoints : [`https://${host}`];
  const tls = [
    ...(clusterCri.certFiles?.length ? [`  ca = [${clusterCri.certFiles.map(tomlString).join(', ')}]`] : []),
    ...(clusterCri.skipTls ? ['  skip_verify = true'] : []),
  ];
  const blocks = endpoints.map((endpoint) => [`[host.${tomlString(endpoint)}]`, '  capabilities = ["pull", "resolve"]', ...tls].join('\n'));
  return [
    { path: `${REGISTRY_FOLDER}/${host}/hosts.toml`, content: `server = ${tomlString(`https://${host}`)}\n\n${blocks.join('\n\n')}\n` },
  ];
}
