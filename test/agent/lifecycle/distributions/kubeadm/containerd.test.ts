import { describe, expect, test } from 'vitest';
import {
  type ContainerdWish,
  cgroupDriver,
  containerdConfig,
  hasOldRegistries,
  registryHosts,
} from '../../../../../src/agent/lifecycle/distributions/kubeadm/containerd-config.ts';
import { dropToml, getToml, setToml } from '../../../../../src/agent/lifecycle/distributions/kubeadm/toml.ts';
import { FACTS, SPEC } from './facts.ts';

const DUMP_2 = `disabled_plugins = ["cri"]
imports = ["/etc/containerd/config.toml"]
version = 2

[plugins]

  [plugins."io.containerd.grpc.v1.cri"]
    max_container_log_line_size = 4096
    restrict_oom_score_adj = false
    sandbox_image = "registry.k8s.io/pause:3.6"

    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/net.d"

    [plugins."io.containerd.grpc.v1.cri".containerd]

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
        runtime_type = "io.containerd.runc.v2"

        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
          BinaryName = ""
          SystemdCgroup = false

    [plugins."io.containerd.grpc.v1.cri".registry]
      config_path = ""

      [plugins."io.containerd.grpc.v1.cri".registry.configs]

      [plugins."io.containerd.grpc.v1.cri".registry.mirrors]
`;
const DUMP_3 = `version = 3

[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'

  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = 'registry.k8s.io/pause:3.10'

  [plugins.'io.containerd.cri.v1.images'.registry]
    config_path = '/etc/containerd/certs.d:/etc/docker/certs.d'

[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = false

  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
    SystemdCgroup = false

  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['/usr/lib/cni']
`;
const WISH: ContainerdWish = {
  systemdCgroup: true,
  pauseImage: 'registry.k8s.io/pause:3.10.2',
  restrictOomScore: false,
  registry: undefined,
};
const CRI = 'plugins."io.containerd.grpc.v1.cri"';

describe("containerd's configuration", () => {
  test('of containerd 1: a few keys change, everything else stays', () => {
    const text = containerdConfig(DUMP_2, { ...WISH, restrictOomScore: true });
    expect(getToml(text, CRI, 'sandbox_image')).toBe('"registry.k8s.io/pause:3.10.2"');
    expect(getToml(text, CRI, 'restrict_oom_score_adj')).toBe('true');
    expect(getToml(text, CRI, 'max_container_log_line_size')).toBe('4096');
    expect(getToml(text, `${CRI}.containerd.runtimes.runc.options`, 'SystemdCgroup')).toBe('true');
    expect(getToml(text, `${CRI}.cni`, 'bin_dir')).toBe('"/opt/cni/bin"');
    expect(getToml(text, `${CRI}.registry`, 'config_path')).toBe('""');
    expect(getToml(text, '', 'disabled_plugins')).toBe('[]');
    expect(getToml(text, '', 'imports')).toBe('[]');
    expect(text).toContain('[plugins."io.containerd.grpc.v1.cri".registry.mirrors]');
  });

  test('of containerd 2', () => {
    const text = containerdConfig(DUMP_3, WISH);
    expect(getToml(text, "plugins.'io.containerd.cri.v1.images'.pinned_images", 'sandbox')).toBe('"registry.k8s.io/pause:3.10.2"');
    expect(getToml(text, "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options", 'SystemdCgroup')).toBe('true');
    expect(getToml(text, "plugins.'io.containerd.cri.v1.runtime'.cni", 'bin_dirs')).toBe('["/opt/cni/bin"]');
    expect(getToml(text, "plugins.'io.containerd.cri.v1.runtime'.cni", 'bin_dir')).toBeUndefined();
  });

  test('is the same when it is made of itself', () => {
    for (const dump of [DUMP_2, DUMP_3, '']) {
      const wish = { ...WISH, registry: { host: 'r.example.com', auth: { username: 'u', password: 'p' } } };
      const once = containerdConfig(dump, wish);
      expect(containerdConfig(once, wish)).toBe(once);
      // A repair makes it of what is kept without the password.
      const base = containerdConfig(dump, { ...wish, registry: { host: 'r.example.com', auth: undefined } });
      expect(containerdConfig(base, wish)).toBe(once);
      expect(containerdConfig(containerdConfig(once, { ...wish, registry: { host: 'r.example.com', auth: undefined } }), wish)).toBe(once);
    }
  });

  test('where nothing is known of it, every table is made', () => {
    const text = containerdConfig('', WISH);
    expect(getToml(text, '', 'version')).toBe('2');
    expect(getToml(text, CRI, 'sandbox_image')).toBe('"registry.k8s.io/pause:3.10.2"');
  });

  test('a registry with credentials: mirrors go, folders are added, text is escaped', () => {
    const registry = { host: 'registry.example.com:5000', auth: { username: 'jane', password: 'a"b\\c' } };
    const text = containerdConfig(DUMP_2, { ...WISH, registry });
    expect(text).not.toContain('registry.mirrors');
    expect(getToml(text, `${CRI}.registry`, 'config_path')).toBe('"/etc/containerd/certs.d"');
    const table = `${CRI}.registry.configs."registry.example.com:5000".auth`;
    expect(getToml(text, table, 'username')).toBe('"jane"');
    expect(getToml(text, table, 'password')).toBe('"a\\"b\\\\c"');
    const folders = containerdConfig(DUMP_3, { ...WISH, registry: { host: 'x', auth: undefined } });
    expect(getToml(folders, "plugins.'io.containerd.cri.v1.images'.registry", 'config_path')).toBe(
      '"/etc/containerd/certs.d:/etc/docker/certs.d"',
    );
  });

  test('credentials that are no longer wanted are taken out', () => {
    const host = 'registry.example.com';
    const text = containerdConfig(DUMP_2, { ...WISH, registry: { host, auth: { username: 'jane', password: 'secret' } } });
    expect(containerdConfig(text, { ...WISH, registry: { host, auth: undefined } })).not.toContain('secret');
  });

  test('mirrors in the older form are noticed', () => {
    expect(hasOldRegistries(DUMP_2)).toBe(false);
    expect(hasOldRegistries(`${DUMP_2}\n      [${CRI}.registry.mirrors."docker.io"]\n        endpoint = ["https://x"]\n`)).toBe(true);
    expect(hasOldRegistries(`${DUMP_2}\n      [${CRI}.registry.configs."x".tls]\n`)).toBe(true);
  });
});

test('TOML: a key is set in its own table only', () => {
  const text = '[a]\n  x = 1\n[b]\n  x = 2\n';
  expect(setToml(text, 'b', 'x', '3')).toBe('[a]\n  x = 1\n[b]\n  x = 3\n');
  expect(setToml(text, 'a', 'y', '4')).toBe('[a]\n  y = 4\n  x = 1\n[b]\n  x = 2\n');
  expect(setToml(text, 'c.d', 'z', '5')).toBe('[a]\n  x = 1\n[b]\n  x = 2\n\n[c.d]\n  z = 5\n');
  expect(dropToml('[a]\nx = 1\n[a.b]\ny = 2\n[ab]\nz = 3\n', 'a')).toBe('[ab]\nz = 3\n');
});

test('control groups through systemd only where it does that well', () => {
  expect(cgroupDriver(FACTS)).toBe('systemd');
  expect(cgroupDriver({ ...FACTS, cgroup: 1 })).toBe('cgroupfs');
  expect(cgroupDriver({ ...FACTS, initSystem: 'none' })).toBe('cgroupfs');
});

describe('hosts of the private registry', () => {
  const cri = {
    privateRegistryFQDN: 'registry.example.com',
    certFiles: ['/etc/ssl/r.pem'],
    registryAuth: { isAuthRequired: true, username: 'jane', password: 'secret' },
  };
  test('one file, the endpoints in their order, no credentials', () => {
    const spec = {
      ...SPEC,
      clusterRuntime: { customiseClusterRuntime: true, clusterCri: { ...cri, privateRegistryEndpoints: ['https://a:5000', 'https://b'] } },
    };
    expect(registryHosts(spec)).toEqual([
      {
        path: '/etc/containerd/certs.d/registry.example.com/hosts.toml',
        content: `server = "https://registry.example.com"

[host."https://a:5000"]
  capabilities = ["pull", "resolve"]
  ca = ["/etc/ssl/r.pem"]

[host."https://b"]
  capabilities = ["pull", "resolve"]
  ca = ["/etc/ssl/r.pem"]
`,
      },
    ]);
  });

  test('verification is left out only when asked', () => {
    const hosts = (skipTls: boolean) =>
      registryHosts({ ...SPEC, clusterRuntime: { customiseClusterRuntime: true, clusterCri: { ...cri, skipTls } } })[0]?.content;
    expect(hosts(true)).toContain('skip_verify = true');
    expect(hosts(false)).not.toContain('skip_verify');
  });

  test('nothing without customiseClusterRuntime', () => {
    expect(registryHosts({ ...SPEC, clusterRuntime: { clusterCri: cri } })).toEqual([]);
  });
});
