import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Where the files of the images come from. */
export type Sources = {
  /** Programs by name: kube-apiserver, etcd, coredns, ... */
  tools: string;
  /** The file system of a Debian machine, for iptables and nft with their libraries. */
  rootfs: string;
};

type Layer = { entrypoint: readonly string[]; fill(folder: string, sources: Sources): void };

function put(source: string, target: string): void {
  mkdirSync(dirname(target), { recursive: true });
  copyFileSync(source, target);
  chmodSync(target, 0o755);
}

/** The program where Kubernetes' own images have it, on the PATH: manifests name it without a folder. */
function programs(...names: string[]): Layer {
  return {
    entrypoint: [`/usr/local/bin/${names[0]}`],
    fill(folder, { tools }) {
      for (const name of names) put(join(tools, name), join(folder, 'usr/local/bin', name));
    },
  };
}

function compiled(name: string): Layer {
  return {
    entrypoint: [`/${name}`],
    fill(folder) {
      const source = fileURLToPath(new URL(`${name}.c`, import.meta.url));
      try {
        // getaddrinfo warns that it could want shared libraries; files and DNS are built in.
        execFileSync('cc', ['-static', '-Os', '-s', '-Wall', '-Wextra', '-o', join(folder, name), source], {
          stdio: ['ignore', 'ignore', 'pipe'],
        });
      } catch (error) {
        throw new Error(
          `cannot compile ${source}: is there a C compiler (gcc) with a static libc? ${error instanceof Error ? error.message : ''}`,
          { cause: error },
        );
      }
    },
  };
}

const xtables = ['iptables', 'iptables-save', 'iptables-restore', 'ip6tables', 'ip6tables-save', 'ip6tables-restore'];

/** kube-proxy runs iptables or nft: those of Debian, with what `ldd` says that they need. */
const kubeProxy: Layer = {
  entrypoint: ['/usr/local/bin/kube-proxy'],
  fill(folder, { tools, rootfs }) {
    put(join(tools, 'kube-proxy'), join(folder, 'usr/local/bin/kube-proxy'));
    const binaries = ['/usr/sbin/xtables-nft-multi', '/usr/sbin/nft', '/usr/sbin/conntrack'];
    const plugins = execFileSync('chroot', [rootfs, 'find', '/usr/lib', '-path', '*/xtables/*.so'], { encoding: 'utf8' })
      .trim()
      .split('\n');
    const needed = execFileSync('chroot', [rootfs, 'ldd', ...binaries, ...plugins], { encoding: 'utf8' });
    const libraries = [...needed.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map((match) => match[1] ?? '');
    for (const link of ['bin', 'sbin', 'lib', 'lib64']) {
      mkdirSync(join(folder, 'usr', link), { recursive: true });
      symlinkSync(`usr/${link}`, join(folder, link));
    }
    for (const file of new Set([...binaries, ...plugins, ...libraries])) {
      const target = join(folder, file);
      mkdirSync(dirname(target), { recursive: true });
      copyFileSync(join(rootfs, file), target);
    }
    for (const name of xtables) symlinkSync('xtables-nft-multi', join(folder, 'usr/sbin', name));
  },
};

const layers: Readonly<Record<string, Layer>> = {
  'kube-apiserver': programs('kube-apiserver'),
  'kube-controller-manager': programs('kube-controller-manager'),
  'kube-scheduler': programs('kube-scheduler'),
  'kube-proxy': kubeProxy,
  etcd: programs('etcd', 'etcdctl', 'etcdutl'),
  // Its manifest gives arguments only.
  coredns: { entrypoint: ['/coredns'], fill: (folder, { tools }) => put(join(tools, 'coredns'), join(folder, 'coredns')) },
  pause: compiled('pause'),
  hello: compiled('hello'),
};

/** Fills the empty `folder` with the files of the image `name` and returns its entrypoint. Throws for an image that nobody knows how to make. */
export function makeLayer(name: string, folder: string, sources: Sources): readonly string[] {
  const short = name.replace(/^.*\//, '').replace(/:.*$/, '');
  const layer = layers[short];
  if (layer === undefined) throw new Error(`nothing is known about making the image ${name}`);
  mkdirSync(join(folder, 'etc'), { recursive: true });
  mkdirSync(join(folder, 'tmp'), { mode: 0o1777 });
  chmodSync(join(folder, 'tmp'), 0o1777);
  writeFileSync(join(folder, 'etc/passwd'), 'root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n');
  layer.fill(folder, sources);
  if (readdirSync(folder).length < 3) throw new Error(`the image ${name} is empty`);
  return layer.entrypoint;
}
