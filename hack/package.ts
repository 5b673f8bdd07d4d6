import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { productVersion } from './release/bundle.ts';

const USAGE = `node hack/package.ts [flags]

Packs the agent's executables of node hack/build.ts --only agent --sea as .deb and .rpm (deploy/machine/nfpm.yaml).

  --out FOLDER      default: dist; executables are read from FOLDER/PLATFORM, packages written to FOLDER/packages
  --platforms LIST  some of linux-x64, linux-arm64; default: those whose executable is there
  --formats LIST    default: deb,rpm
  --nfpm FILE       default: what hack/tools.sh nfpm gives

The packages' times are SOURCE_DATE_EPOCH, by default the time of the last commit, so that the same commit gives the same bytes.
`;

const root = join(import.meta.dirname, '..');
const ARCHITECTURES: Readonly<Record<string, string>> = { 'linux-x64': 'amd64', 'linux-arm64': 'arm64' };
const FORMATS = ['deb', 'rpm'];

const { values } = parseArgs({
  options: {
    out: { type: 'string', default: join(root, 'dist') },
    platforms: { type: 'string' },
    formats: { type: 'string', default: FORMATS.join(',') },
    nfpm: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

const executableOf = (platform: string) => resolve(values.out, platform, 'fairlead-agent');

function nfpm(): string {
  if (values.nfpm) return resolve(values.nfpm);
  const said = execFileSync(join(root, 'hack', 'tools.sh'), ['nfpm'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  return join(said.trim(), 'nfpm');
}

const lastCommit = () => execFileSync('git', ['-C', root, 'log', '-1', '--format=%ct'], { encoding: 'utf8' }).trim();

/** Packs one executable; returns the package's path. */
function pack(program: string, platform: string, format: string): string {
  const architecture = ARCHITECTURES[platform];
  if (architecture === undefined) throw new Error(`no packages for ${platform}; known are ${Object.keys(ARCHITECTURES).join(', ')}`);
  if (!FORMATS.includes(format)) throw new Error(`no packages of the kind ${format}; known are ${FORMATS.join(', ')}`);
  const executable = executableOf(platform);
  if (!existsSync(executable))
    throw new Error(`${executable} is missing: run node hack/build.ts --only agent --sea --platforms ${platform}`);
  const folder = resolve(values.out, 'packages');
  const fresh = join(folder, `.${platform}-${format}`);
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(fresh, { recursive: true });
  try {
    const name = format === 'deb' ? debName(architecture) : rpmName(platform);
    execFileSync(program, ['package', '--config', 'deploy/machine/nfpm.yaml', '--packager', format, '--target', join(fresh, name)], {
      cwd: root,
      stdio: ['ignore', process.stderr, 'inherit'],
      env: {
        PATH: process.env['PATH'],
        TZ: 'UTC',
        SOURCE_DATE_EPOCH: process.env['SOURCE_DATE_EPOCH'] || lastCommit(),
        PACKAGE_ARCH: architecture,
        PACKAGE_VERSION: productVersion(),
        PACKAGE_EXECUTABLE: executable,
      },
    });
    renameSync(join(fresh, name), join(folder, name));
    return join(folder, name);
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}

const debName = (architecture: string) => `fairlead-agent_${productVersion()}-1_${architecture}.deb`;
const rpmName = (platform: string) => `fairlead-agent-${productVersion()}-1.${platform === 'linux-x64' ? 'x86_64' : 'aarch64'}.rpm`;

if (values.help) {
  process.stdout.write(USAGE);
} else {
  const platforms = values.platforms?.split(',') ?? Object.keys(ARCHITECTURES).filter((platform) => existsSync(executableOf(platform)));
  if (platforms.length === 0) throw new Error('there is no executable of the agent: run node hack/build.ts --only agent --sea first');
  const program = nfpm();
  for (const platform of platforms) {
    for (const format of values.formats.split(',')) {
      const file = pack(program, platform, format);
      process.stdout.write(`${relative(process.cwd(), file)}  ${Math.ceil(statSync(file).size / 1024)} KiB\n`);
    }
  }
}
