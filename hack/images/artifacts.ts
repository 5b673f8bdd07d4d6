import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, linkSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sha256, writeImageArchive } from './image-archive.ts';
import { makeLayer, type Sources } from './layers.ts';

// node hack/images/artifacts.ts [VERSION...]     default: v1.35.4 v1.36.3
//
// Prints the folder with everything that a machine without a network needs to become a cluster of these versions, and makes it in the user cache
// when it is not there: Kubernetes' programs and images, CNI plugins, Debian's containerd, and SHA256SUMS, which names every file.
// The images are made here, from the programs, under exactly the names that kubeadm asks for.

const versions = process.argv.length > 2 ? process.argv.slice(2) : ['v1.35.4', 'v1.36.3'];
const folder = dirname(fileURLToPath(import.meta.url));
const hack = dirname(folder);
const cache = process.env['FAIRLEAD_CACHE'] ?? join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'fairlead');
const plugins = ['bridge', 'host-local', 'loopback', 'portmap'];
const workload = 'fairlead.test/hello:1';
const say = (text: string) => process.stderr.write(`artifacts: ${text}\n`);

function script(name: string, args: readonly string[] = [], env: Record<string, string> = {}): string {
  return execFileSync(join(hack, name), args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  }).trim();
}

/** What decides about the content: these sources. */
function key(): string {
  const hash = createHash('sha256');
  for (const file of [
    ...readdirSync(folder).map((entry) => join(folder, entry)),
    join(hack, 'tools.sh'),
    join(hack, 'machine-rootfs.sh'),
  ].sort()) {
    hash.update(basename(file)).update(readFileSync(file));
  }
  return `${versions.join('+')}-${hash.digest('hex').slice(0, 12)}`;
}

/** A second name for the same bytes where the file system can do that. */
function linkOrCopy(source: string, target: string): void {
  mkdirSync(dirname(target), { recursive: true });
  try {
    linkSync(source, target);
  } catch {
    copyFileSync(source, target);
  }
}

async function addVersion(version: string, target: string, rootfs: string, made: Map<string, string>): Promise<void> {
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
  const sources: Sources = { tools, rootfs };
  for (const program of ['kubeadm', 'kubelet', 'kubectl']) {
    linkOrCopy(
      execFileSync('readlink', ['-f', join(tools, program)], { encoding: 'utf8' }).trim(),
      join(target, 'kubernetes', version, 'bin', program),
    );
  }
  const wanted = execFileSync(join(tools, 'kubeadm'), ['config', 'images', 'list', '--kubernetes-version', version], { encoding: 'utf8' })
    .trim()
    .split('\n');
  const images = join(target, 'kubernetes', version, 'images');
  mkdirSync(images, { recursive: true });
  for (const name of [...wanted, workload]) {
    const out = join(images, `${name.replace(/^[^/]*\//, '').replace(/[/:]/g, '_')}.tar`);
    const same = made.get(name);
    if (same !== undefined) {
      linkOrCopy(same, out);
      continue;
    }
    const scratch = join(target, '.scratch');
    const layer = join(target, '.layer');
    mkdirSync(layer);
    const entrypoint = makeLayer(name, layer, sources);
    await writeImageArchive({ name, entrypoint }, layer, scratch, out);
    rmSync(layer, { recursive: true });
    made.set(name, out);
    say(`${version}: ${name}`);
  }
}

async function make(target: string): Promise<void> {
  const template = script('machine-rootfs.sh');
  const made = new Map<string, string>();
  for (const version of versions) await addVersion(version, target, join(template, 'rootfs'), made);
  const tools = script('tools.sh', plugins);
  for (const plugin of plugins)
    linkOrCopy(execFileSync('readlink', ['-f', join(tools, plugin)], { encoding: 'utf8' }).trim(), join(target, 'cni/bin', plugin));
  for (const entry of readdirSync(join(template, 'packages')))
    linkOrCopy(join(template, 'packages', entry), join(target, 'packages', entry));
  const files = readdirSync(target, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const sums: string[] = [];
  for (const path of files.map((entry) => relative(target, join(entry.parentPath, entry.name))).sort())
    sums.push(`${await sha256(join(target, path))}  ${path}\n`);
  writeFileSync(join(target, 'SHA256SUMS'), sums.join(''));
}

const target = join(cache, 'artifacts', key());
if (!existsSync(join(target, 'SHA256SUMS'))) {
  say(`making ${versions.join(' and ')} (once; minutes when the programs must be built)`);
  const part = `${target}.part.${process.pid}`;
  try {
    mkdirSync(part, { recursive: true });
    await make(part);
    rmSync(target, { recursive: true, force: true });
    renameSync(part, target);
  } finally {
    rmSync(part, { recursive: true, force: true });
  }
}
console.log(target);
