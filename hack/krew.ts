import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { productVersion } from './release/bundle.ts';

const USAGE = `node hack/krew.ts --base-url URL --homepage URL [--out FOLDER]

Writes the manifests of the krew index from deploy/krew/*.yaml.tmpl and the archives of node hack/build.ts --archives.

  --base-url URL  folder from which krew will download the archives
  --homepage URL  shown by kubectl krew info
  --out FOLDER    default: dist; archives are read from FOLDER/archives, manifests written to FOLDER/krew/plugins
`;

/** krew's platforms, and the archive for each: an executable where there is one, else the bundle that needs Node.js. */
const PLATFORMS = [
  { os: 'linux', arch: 'amd64', archive: 'linux-x64' },
  { os: 'linux', arch: 'arm64', archive: 'linux-arm64' },
  { os: 'darwin', arch: 'amd64', archive: 'node' },
  { os: 'darwin', arch: 'arm64', archive: 'node' },
  { os: 'windows', arch: 'amd64', archive: 'win-x64' },
] as const;

const { values } = parseArgs({
  options: {
    'base-url': { type: 'string' },
    homepage: { type: 'string' },
    out: { type: 'string', default: join(import.meta.dirname, '..', 'dist') },
    help: { type: 'boolean', default: false },
  },
});

function platforms(plugin: string, baseUrl: string, out: string): string {
  const lines: string[] = [];
  for (const { os, arch, archive } of PLATFORMS) {
    const name = `${plugin}_v${productVersion()}_${archive}.tar.gz`;
    const path = join(out, 'archives', name);
    if (!existsSync(path)) {
      process.stderr.write(`${name} is missing: ${os}/${arch} is left out\n`);
      continue;
    }
    const binary = os === 'windows' ? `${plugin}.exe` : plugin;
    lines.push(
      '  - selector:',
      '      matchLabels:',
      `        os: ${os}`,
      `        arch: ${arch}`,
      `    uri: ${baseUrl.replace(/\/+$/, '')}/${name}`,
      `    sha256: ${createHash('sha256').update(readFileSync(path)).digest('hex')}`,
      `    bin: ${binary}`,
      '    files:',
      `    - from: ${binary}`,
      '      to: .',
      '    - from: LICENSE',
      '      to: .',
    );
  }
  if (lines.length === 0) throw new Error(`no archive of ${plugin} in ${join(out, 'archives')}: run node hack/build.ts --archives first`);
  return lines.join('\n');
}

if (values.help) {
  process.stdout.write(USAGE);
} else if (!values['base-url'] || !values.homepage) {
  process.stderr.write(`--base-url and --homepage are needed\n\n${USAGE}`);
  process.exitCode = 2;
} else {
  const folder = join(values.out, 'krew', 'plugins');
  mkdirSync(folder, { recursive: true });
  for (const name of ['restart', 'infra']) {
    const template = readFileSync(join(import.meta.dirname, '..', 'deploy', 'krew', `${name}.yaml.tmpl`), 'utf8');
    const manifest = template
      .replace('{{version}}', `v${productVersion()}`)
      .replace('{{homepage}}', values.homepage)
      .replace('{{platforms}}', platforms(`kubectl-${name}`, values['base-url'], values.out));
    const file = join(folder, `${name}.yaml`);
    writeFileSync(file, manifest);
    process.stdout.write(`${file}\n`);
  }
}
