import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { cachedFolder, linkOrCopy, say, script, tool } from './cached.ts';
import type { Sources } from './layers.ts';
import { archiveName, makeImage } from './make-image.ts';

// node hack/images/artifacts.ts [VERSION...]     default: v1.35.4 v1.36.3
//
// Prints the folder with everything that a machine without a network needs to become a cluster of these versions, and makes it in the user cache
// when it is not there: Kubernetes' programs and images, CNI plugins, Debian's containerd, and SHA256SUMS, which names every file.
// The images are made here, from the programs, under exactly the names that kubeadm asks for.

const versions = process.argv.length > 2 ? process.argv.slice(2) : ['v1.35.4', 'v1.36.3'];
const plugins = ['bridge', 'host-local', 'loopback', 'portmap'];
const workload = 'fairlead.test/hello:1';

async function addVersion(version: string, target: string, template: string, made: Map<string, string>): Promise<void> {
  const names = [
    'kubeadm',
    'kubelet',
    'kubectl',
    'kube-apiserver',
    'kube-controller-manager',
    'kube-scheduler',
    'kube-proxy',
    'etcd',
    'etcdctl',
    'etcdutl',
    'coredns',
  ];
  const tools = script('tools.sh', names, { KUBERNETES_VERSION: version });
  const sources: Sources = { tools, rootfs: join(template, 'rootfs'), busybox: join(template, 'busybox') };
  for (const program of ['kubeadm', 'kubelet', 'kubectl'])
    linkOrCopy(tool(tools, program), join(target, 'kubernetes', version, 'bin', program));
  const wanted = execFileSync(join(tools, 'kubeadm'), ['config', 'images', 'list', '--kubernetes-version', version], { encoding: 'utf8' })
    .trim()
    .split('\n');
  const images = join(target, 'kubernetes', version, 'images');
  mkdirSync(images, { recursive: true });
  for (const name of [...wanted, workload]) {
    const out = join(images, archiveName(name));
    const same = made.get(name);
    if (same !== undefined) {
      linkOrCopy(same, out);
      continue;
    }
    await makeImage(name, target, sources, out);
    made.set(name, out);
    say(`${version}: ${name}`);
  }
}

async function make(target: string): Promise<void> {
  const template = script('machine-rootfs.sh');
  const made = new Map<string, string>();
  for (const version of versions) await addVersion(version, target, template, made);
  const tools = script('tools.sh', plugins);
  for (const plugin of plugins) linkOrCopy(tool(tools, plugin), join(target, 'cni/bin', plugin));
  for (const entry of readdirSync(join(template, 'packages')))
    linkOrCopy(join(template, 'packages', entry), join(target, 'packages', entry));
}

console.log(await cachedFolder(versions.join('+'), versions.join(' and '), make));
