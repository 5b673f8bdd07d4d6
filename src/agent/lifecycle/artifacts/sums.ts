import { StepError } from '../operations/step.ts';

/** Name of the index: lines `<sha256 in hex>  <relative path>`. */
export const INDEX = 'SHA256SUMS';

/** Sums by path. Throws StepError for a line that is neither empty nor of that form, and for a path that leads out of the source. */
export function readSums(text: string, source: string): Map<string, string> {
  const sums = new Map<string, string>();
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === '') continue;
    const [, sum = '', path = ''] = /^([0-9a-fA-F]{64}) [ *](.+)$/.exec(line) ?? [];
    if (sum === '') throw new StepError(`${INDEX} of ${source}: line ${index + 1} is not "<sha256>  <path>"`);
    sums.set(refuseEscape(path.replace(/^\.\//, '')), sum.toLowerCase());
  }
  return sums;
}

/** The path itself; throws StepError when it is not plainly below the source. */
export function refuseEscape(path: string): string {
  const parts = path.split('/');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  const odd = path.length > 512 || /[\\\u0000-\u001f]/.test(path);
  if (odd || parts.some((part) => part === '' || part === '.' || part === '..')) {
    throw new StepError(`artifact ${JSON.stringify(path.slice(0, 100))}: the path must lead to a file below the source`);
  }
  return path;
}

export function sumOf(sums: ReadonlyMap<string, string>, path: string, source: string): string {
  const sum = sums.get(refuseEscape(path));
  if (sum === undefined) throw new StepError(`${source} has no artifact ${path}: it does not stand in its ${INDEX}`);
  return sum;
}
