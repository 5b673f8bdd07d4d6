import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { LOCAL_PATH_VERSION, localPathImages } from '../../src/agent/lifecycle/distributions/kubeadm/storage.ts';
import { cachedFolder, say, script, tool } from './cached.ts';
import type { Sources } from './layers.ts';
import { archiveName, makeImage } from './make-image.ts';

// node hack/images/add-ons.ts
//
// Prints the folder with what a cluster may have besides Kubernetes, and makes it in the user cache when it is not there: images/ for local-path storage, as the agent
// asks for them, and for flannel, as its own manifest does; kube-flannel.yml, that manifest.

/** Flannel's plugin is an older one here (hack/tools.sh says why), and speaks this version of CNI at most. */
const [NEWER_CNI, CNI] = ['"cniVersion": "1.0.0"', '"cniVersion": "0.4.0"'];

async function make(target: string): Promise<void> {
  const template = script('machine-rootfs.sh');
  const tools = script('tools.sh', ['local-path-provisioner', 'flanneld', 'install-conf', 'flannel-plugin'], { LOCAL_PATH_VERSION });
  const sources: Sources = { tools, rootfs: join(template, 'rootfs'), busybox: join(template, 'busybox') };
  const manifest = readFileSync(join(dirname(tool(tools, 'flanneld')), 'kube-flannel.yml'), 'utf8');
  if (!manifest.includes(NEWER_CNI)) throw new Error(`the manifest of flannel does not say ${NEWER_CNI}`);
  writeFileSync(join(target, 'kube-flannel.yml'), manifest.replace(NEWER_CNI, CNI));
  const { provisioner, helper } = localPathImages({});
  const ofFlannel = [...manifest.matchAll(/^\s*image: (\S+)$/gm)].map((match) => match[1] ?? '');
  mkdirSync(join(target, 'images'));
  for (const name of new Set([provisioner, helper, ...ofFlannel])) {
    await makeImage(name, target, sources, join(target, 'images', archiveName(name)));
    say(name);
  }
}

// Flannel's version is in a script that cachedFolder looks at.
const images = Object.values(localPathImages({})).map((name) => basename(name).replace(':', '-'));
console.log(await cachedFolder(`add-ons-${images.join('-')}`, 'storage and network add-ons', make));
