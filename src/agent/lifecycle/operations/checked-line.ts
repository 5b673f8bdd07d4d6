import { createHash } from 'node:crypto';

/** JSON of a value on one line with its checksum before it, newline included. */
export function checkedLine(value: unknown): string {
  const json = JSON.stringify(value);
  return `${sumOf(json)} ${json}\n`;
}

/** The value of a line without its newline; undefined when the line is not whole. */
export function checkedValue(line: string): unknown {
  const json = line.slice(17);
  if (line[16] !== ' ' || line.slice(0, 16) !== sumOf(json)) return undefined;
  return JSON.parse(json);
}

function sumOf(json: string): string {
  return createHash('sha256').update(json).digest('hex').slice(0, 16);
}
