import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sha256, writeImageArchive } from '../../hack/images/image-archive.ts';
import { artifactsFolder } from '../lab/artifacts.ts';

/** A copy of the artifacts in which the image of the API server of `version` is there, with the right checksum, and holds nothing that runs. */
export async function brokenArtifacts(version: string): Promise<{ folder: string; remove(): void }> {
  const folder = mkdtempSync(join(tmpdir(), 'fairlead-broken-'));
  const remove = () => rmSync(folder, { recursive: true, force: true });
  try {
    cpSync(await artifactsFolder(), folder, { recursive: true });
    const images = join('kubernetes', version, 'images');
    const file = readdirSync(join(folder, images)).find((name) => name.includes('kube-apiserver'));
    if (file === undefined) throw new Error(`there is no image of kube-apiserver ${version}`);
    const layer = join(folder, '.layer');
    mkdirSync(join(layer, 'usr/local/bin'), { recursive: true });
    writeFileSync(join(layer, 'usr/local/bin/kube-apiserver'), 'not a program\n', { mode: 0o755 });
    const path = join(images, file);
    await writeImageArchive(
      { name: `registry.k8s.io/kube-apiserver:${version}`, entrypoint: [] },
      layer,
      join(folder, '.scratch'),
      join(folder, path),
    );
    rmSync(layer, { recursive: true });
    const digest = await sha256(join(folder, path));
    const sums = readFileSync(join(folder, 'SHA256SUMS'), 'utf8').split('\n');
    writeFileSync(join(folder, 'SHA256SUMS'), sums.map((line) => (line.endsWith(`  ${path}`) ? `${digest}  ${path}` : line)).join('\n'));
    return { folder, remove };
  } catch (error) {
    remove();
    throw error;
  }
}
