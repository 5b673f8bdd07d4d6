import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { writeImageArchive } from './image-archive.ts';
import { makeLayer, type Sources } from './layers.ts';

/** `coredns_coredns_v1.14.2.tar` for `registry.k8s.io/coredns/coredns:v1.14.2`. */
export const archiveName = (image: string): string => `${image.replace(/^[^/]*\//, '').replace(/[/:]/g, '_')}.tar`;

/** Makes the image and writes it to `out`. Uses folders below `target` meanwhile. */
export async function makeImage(name: string, target: string, sources: Sources, out: string): Promise<void> {
  const layer = join(target, '.layer');
  mkdirSync(layer);
  const entrypoint = makeLayer(name, layer, sources);
  await writeImageArchive({ name, entrypoint }, layer, join(target, '.scratch'), out);
  rmSync(layer, { recursive: true });
}
