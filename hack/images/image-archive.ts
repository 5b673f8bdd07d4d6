import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';

/** A container image of one layer. */
export type Image = {
  /** With registry and tag, as it is loaded: `registry.k8s.io/pause:3.10.2`. */
  name: string;
  /** What is run where the pod does not say. */
  entrypoint: readonly string[];
};

const architectures: Partial<Record<NodeJS.Architecture, string>> = { x64: 'amd64', arm64: 'arm64' };

export async function sha256(file: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  return hash.digest('hex');
}

/** The same bytes for the same files: no times, no owners. */
function tar(folder: string, out: string, ...names: string[]): void {
  execFileSync('tar', ['--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner', '-C', folder, '-cf', out, ...names]);
}

/**
 * Writes `out`, a docker-archive that `ctr images import` and `docker load` take: the files of the folder `layer` as one layer.
 * `scratch` is a folder for the parts; it is emptied.
 */
export async function writeImageArchive(image: Image, layer: string, scratch: string, out: string): Promise<void> {
  const architecture = architectures[process.arch];
  if (architecture === undefined) throw new Error(`no images for ${process.arch}`);
  rmSync(scratch, { recursive: true, force: true });
  mkdirSync(scratch, { recursive: true });
  tar(layer, join(scratch, 'layer.tar'), '.');
  const diffId = `sha256:${await sha256(join(scratch, 'layer.tar'))}`;
  const config = JSON.stringify({
    architecture,
    os: 'linux',
    created: '1970-01-01T00:00:00Z',
    config: { Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'], Entrypoint: image.entrypoint, WorkingDir: '/' },
    rootfs: { type: 'layers', diff_ids: [diffId] },
    history: [{ created: '1970-01-01T00:00:00Z' }],
  });
  const configName = `${createHash('sha256').update(config).digest('hex')}.json`;
  writeFileSync(join(scratch, configName), config);
  writeFileSync(join(scratch, 'manifest.json'), JSON.stringify([{ Config: configName, RepoTags: [image.name], Layers: ['layer.tar'] }]));
  tar(scratch, `${out}.part`, 'manifest.json', configName, 'layer.tar');
  renameSync(`${out}.part`, out);
  rmSync(scratch, { recursive: true });
}
