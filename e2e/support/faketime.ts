import { execFile } from 'node:child_process';
import { existsSync, globSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Folder of libfaketime: the user cache of hack/tools.sh. */
function cacheFolder(): string {
  const cache = process.env['FAIRLEAD_CACHE'] ?? join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'fairlead');
  return join(cache, 'tools', 'libfaketime');
}

const libraryIn = (folder: string): string | undefined =>
  globSync('usr/lib/*/faketime/libfaketime.so.1', { cwd: folder }).map((path) => join(folder, path))[0];

/**
 * The path of libfaketime.so.1, or why it cannot be had. Taken from the system, from the cache, or unpacked into the cache from the Debian package
 * `libfaketime` (apt-get download verifies its checksum; nothing is installed and no root is needed).
 */
export async function findFaketime(): Promise<{ library: string } | { missing: string }> {
  const installed = globSync('/usr/lib/*/faketime/libfaketime.so.1')[0] ?? libraryIn(cacheFolder());
  if (installed) return { library: installed };
  const part = `${cacheFolder()}.part.${process.pid}`;
  try {
    mkdirSync(part, { recursive: true });
    const download = () => run('apt-get', ['download', 'libfaketime'], { cwd: part, timeout: 60_000 });
    await download().catch(async () => {
      await run('apt-get', ['update', '-qq'], { timeout: 120_000 });
      await download();
    });
    const [archive] = globSync('*.deb', { cwd: part });
    if (!archive) return { missing: 'apt-get downloaded no package libfaketime' };
    await run('dpkg-deb', ['-x', archive, '.'], { cwd: part });
    if (!existsSync(cacheFolder())) renameSync(part, cacheFolder());
    const library = libraryIn(cacheFolder());
    return library ? { library } : { missing: 'the package libfaketime has no libfaketime.so.1' };
  } catch (error) {
    return {
      missing: `libfaketime cannot be had from apt-get: ${error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)}`,
    };
  } finally {
    rmSync(part, { recursive: true, force: true });
  }
}

/** A clock that a process sees in place of the machine's; set at any time. The monotonic clock stays real. */
export type FakeClock = {
  env: Record<string, string>;
  /** `+3600` (seconds ahead), `+0 x2` (twice as fast from now on). */
  set(specification: string): void;
};

/** Keeps the specification of the clock in the file `path`, which the process reads at every look at its clock. */
export function fakeClock(library: string, path: string): FakeClock {
  const set = (specification: string) => {
    writeFileSync(`${path}.new`, `${specification}\n`);
    renameSync(`${path}.new`, path);
  };
  set('+0');
  const env = {
    LD_PRELOAD: library,
    FAKETIME_TIMESTAMP_FILE: path,
    FAKETIME_NO_CACHE: '1',
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
    DONT_FAKE_MONOTONIC: '1',
  };
  return { env, set };
}
