import { basename } from 'node:path';
import type { ClusterSpec } from '../../../../kube/lifecycle.ts';
import { type Action, type Step, type StepContext, StepError } from '../../operations/step.ts';
import { kubectl } from '../common/kubectl.ts';
import { waitApi } from '../common/node-state.ts';
import { run, step } from '../common/run.ts';
import { nodeNetwork, podNetworks } from './networks.ts';
import { ADMIN_CONF, CNI_BIN, CNI_CONFIG } from './paths.ts';

/** The plugins that the built-in network needs, and that manifests expect. */
const PLUGINS = ['bridge', 'host-local', 'loopback', 'portmap'];
/** Where distributions' packages put them. */
const PACKAGED = ['/usr/lib/cni', '/usr/libexec/cni'];

/** Whether the network is the built-in bridge, not one of a manifest. */
export const isBridge = (spec: ClusterSpec) => !spec.networking?.cniManifestURL && (spec.networking?.cniName ?? 'bridge') === 'bridge';

const missing = async ({ machine }: StepContext, folder = CNI_BIN): Promise<string[]> => {
  const there = await machine.list(folder);
  return PLUGINS.filter((name) => !there.includes(name));
};

/** The plugins stand in /opt/cni/bin: from the artifacts, or from the system's package. */
export function cniPluginsStep(): Step {
  return step({
    name: 'cni-plugins',
    check: async (context) => (await missing(context)).length === 0,
    run: async (context) => {
      const wanted = await missing(context);
      const artifacts = (await context.artifacts('cni/bin/')).filter((path) => wanted.includes(basename(path)));
      if (artifacts.length === wanted.length) {
        return [
          { kind: 'claim', paths: ['/opt/cni'] },
          ...artifacts.map((artifact): Action => ({ kind: 'fetch', path: `${CNI_BIN}/${basename(artifact)}`, artifact, mode: 0o755 })),
        ];
      }
      for (const folder of PACKAGED) {
        if ((await missing(context, folder)).length > 0) continue;
        return [
          { kind: 'claim', paths: ['/opt/cni'] },
          run(['mkdir', '-p', CNI_BIN]),
          run(['cp', '-n', '-t', CNI_BIN, ...wanted.map((name) => `${folder}/${name}`)]),
        ];
      }
      throw new StepError(
        `the CNI plugins ${wanted.join(', ')} are neither in ${CNI_BIN} nor in the artifacts (cni/bin/)`,
        context.facts.packageManager === 'apt' ? 'apt-get install containernetworking-plugins' : 'put them into the artifacts',
      );
    },
    verify: async (context) => {
      const left = await missing(context);
      if (left.length > 0) throw new Error(`${left.join(', ')} are missing in ${CNI_BIN}`);
    },
    afterCrash: 'repeat',
  });
}

/** The built-in network: pods on one bridge, behind the node's address for everything outside. */
export function bridgeConfig(spec: ClusterSpec): string {
  const pods = podNetworks(spec);
  const config = {
    cniVersion: '1.0.0',
    name: 'fairlead',
    plugins: [
      {
        type: 'bridge',
        bridge: 'cni0',
        isGateway: true,
        isDefaultGateway: true,
        ipMasq: true,
        hairpinMode: true,
        ipam: { type: 'host-local', ranges: pods.map((pod) => [{ subnet: nodeNetwork(pod) }]) },
      },
      { type: 'portmap', capabilities: { portMappings: true }, snat: true },
    ],
  };
  return `${JSON.stringify(config, undefined, 2)}\n`;
}

/** The bridge's configuration; containerd takes it up by itself. Nothing to do for a network of a manifest. */
export function bridgeStep(spec: ClusterSpec): Step {
  const content = bridgeConfig(spec);
  return step({
    name: 'bridge-network',
    check: async ({ machine }) => (await machine.read(CNI_CONFIG)) === content,
    run: async () => [
      { kind: 'claim', paths: ['/etc/cni', '/var/lib/cni'] },
      { kind: 'write', path: CNI_CONFIG, content, mode: 0o644 },
    ],
    verify: async ({ machine }) => {
      if ((await machine.read(CNI_CONFIG)) !== content) throw new Error(`${CNI_CONFIG} is not as written`);
    },
    afterCrash: 'repeat',
  });
}

const location = (url: string) => (url.startsWith('file://') ? decodeURIComponent(new URL(url).pathname) : url);

/** What networks of manifests write, and what they keep while they run. */
const WRITTEN = ['/etc/cni', '/opt/cni', '/etc/calico'];
const KEPT = ['/var/lib/cni', '/var/lib/calico', '/var/lib/cilium', '/run/flannel', '/run/calico', '/run/cilium'];

/** The network of a manifest, applied. `before`: the manifest of the cluster before a patch, applied again when the patch is taken back. `name`: of the step. */
export function cniManifestStep(name: string, url: string, before: string | undefined): Step {
  const apply = (manifest: string): Action => ({
    kind: 'command',
    command: kubectl(ADMIN_CONF, ['apply', '--server-side', '--force-conflicts', '-f', location(manifest)], { timeoutMs: 180_000 }),
  });
  return step({
    name,
    run: async ({ machine }) => {
      if (url.startsWith('file://') && !(await machine.stat(location(url))))
        throw new StepError(`${location(url)}, the manifest of the CNI, does not exist`);
      return [
        // Addresses that pods have are not turned back under them.
        { kind: 'claim', paths: before === undefined ? [...WRITTEN, ...KEPT] : WRITTEN },
        waitApi(ADMIN_CONF),
        apply(url),
      ];
    },
    undo: async ({ machine }) => ((await machine.stat(ADMIN_CONF)) && before ? [waitApi(ADMIN_CONF), apply(before)] : []),
    afterCrash: 'repeat',
  });
}
