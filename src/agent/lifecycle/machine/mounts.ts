import { readFile } from 'node:fs/promises';

/** Paths that something is mounted at, at `path` or below. Without /proc: none. */
export async function mountsFrom(path: string): Promise<string[]> {
  const text = await readFile('/proc/self/mountinfo', 'utf8').catch(() => '');
  return text
    .split('\n')
    .map((line) =>
      (line.split(' ')[4] ?? '').replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))),
    )
    .filter((mounted) => mounted === path || mounted.startsWith(`${path}/`));
}
