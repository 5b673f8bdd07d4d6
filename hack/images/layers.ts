import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { putBusybox, putPacketFilters } from './debian.ts';
import { put } from './put.ts';

/** Where the files of the images come from. */
export type Sources = {
  /** Programs by name: kube-apiserver, etcd, coredns, ... */
  tools: string;
  /** The file system of a Debian machine, for iptables and nft with their libraries. */
  rootfs: string;
  /** Debian's static busybox. */
  busybox: string;
};

type Layer = { entrypoint: readonly string[]; fill(folder: string, sources: Sources): void };

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

/** kube-proxy runs iptables or nft. */
const kubeProxy: Layer = {
  entrypoint: ['/usr/local/bin/kube-proxy'],
  fill(folder, { tools, rootfs }) {
    put(join(tools, 'kube-proxy'), join(folder, 'usr/local/bin/kube-proxy'));
    putPacketFilters(rootfs, folder);
  },
};

/** flanneld runs iptables; install-conf is the first container of its pod. */
const flannel: Layer = {
  entrypoint: ['/opt/bin/flanneld'],
  fill(folder, { tools, rootfs }) {
    for (const name of ['flanneld', 'install-conf']) put(join(tools, name), join(folder, 'opt/bin', name));
    putPacketFilters(rootfs, folder);
  },
};

/** Pods say what they run in it. */
const busybox: Layer = { entrypoint: [], fill: (folder, sources) => putBusybox(sources.busybox, folder) };

/** A program to be copied, and a `cp` to do that with. */
const flannelPlugin: Layer = {
  entrypoint: [],
  fill(folder, sources) {
    put(join(sources.tools, 'flannel-plugin'), join(folder, 'flannel'));
    putBusybox(sources.busybox, folder);
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
  'local-path-provisioner': programs('local-path-provisioner'),
  busybox,
  flannel,
  'flannel-cni-plugin': flannelPlugin,
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
