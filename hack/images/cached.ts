import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, linkSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sha256 } from './image-archive.ts';

const folder = dirname(fileURLToPath(import.meta.url));
const hack = dirname(folder);
const cache = process.env['FAIRLEAD_CACHE'] ?? join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'fairlead');

export const say = (text: string) => process.stderr.write(`artifacts: ${text}\n`);

/** What a script of hack/ prints. */
export function script(name: string, args: readonly string[] = [], env: Record<string, string> = {}): string {
  return execFileSync(join(hack, name), args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  }).trim();
}

/** The file that a link of the tools' folder leads to. */
export const tool = (tools: string, name: string): string =>
  execFileSync('readlink', ['-f', join(tools, name)], { encoding: 'utf8' }).trim();

/** What decides about the content: these sources. */
function key(): string {
  const hash = createHash('sha256');
  for (const file of [
    ...readdirSync(folder).map((entry) => join(folder, entry)),
    join(hack, 'tools.sh'),
    join(hack, 'machine-rootfs.sh'),
  ].sort()) {
    hash.update(basename(file)).update(readFileSync(file));
  }
  return hash.digest('hex').slice(0, 12);
}

/** A second name for the same bytes where the file system can do that. */
export function linkOrCopy(source: string, target: string): void {
  mkdirSync(dirname(target), { recursive: true });
  try {
    linkSync(source, target);
  } catch {
    copyFileSync(source, target);
  }
}

/** Writes SHA256SUMS, which names every file of the folder. */
async function writeSums(target: string): Promise<void> {
  const files = readdirSync(target, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const sums: string[] = [];
  for (const path of files.map((entry) => relative(target, join(entry.parentPath, entry.name))).sort())
    sums.push(`${await sha256(join(target, path))}  ${path}\n`);
  writeFileSync(join(target, 'SHA256SUMS'), sums.join(''));
}

/** The folder of the user cache that `make` fills, with SHA256SUMS; made once for each version of these sources. `what`: for the reader. */
export async function cachedFolder(name: string, what: string, make: (target: string) => Promise<void>): Promise<string> {
  const target = join(cache, 'artifacts', `${name}-${key()}`);
  if (existsSync(join(target, 'SHA256SUMS'))) return target;
  say(`making ${what} (once; minutes when the programs must be built)`);
  const part = `${target}.part.${process.pid}`;
  try {
    mkdirSync(part, { recursive: true });
    await make(part);
    await writeSums(part);
    rmSync(target, { recursive: true, force: true });
    renameSync(part, target);
  } finally {
    rmSync(part, { recursive: true, force: true });
  }
  return target;
}
