/** Words that YAML 1.1 or 1.2 reads as something else than text. */
const RESERVED = new Set(['y', 'n', 'yes', 'no', 'on', 'off', 'true', 'false', 'null']);
const PLAIN = /^[A-Za-z][A-Za-z0-9_./-]{0,127}$/;
/** An exponent alone is text by YAML 1.1 and 1.2, and a number to some readers of 1.1 (npm's yaml reads e0 as NaN). */
const EXPONENT = /^e-?[0-9]+$/i;

/**
 * A JSON value as YAML text in block style. Every string that is not plainly a word is written as in JSON, which is YAML too. A writer of our
 * own because one list of 5,000 objects kept the library, and with it the whole process, busy for half a second.
 */
export function yamlText(value: unknown): string {
  const lines: string[] = [];
  if (isBlock(value)) writeBlock(value, '', '', lines);
  else lines.push(scalar(value));
  return `${lines.join('\n')}\n`;
}

type Block = readonly unknown[] | Readonly<Record<string, unknown>>;

/** True for what takes lines of its own: a list or an object with something in it. */
function isBlock(value: unknown): value is Block {
  if (typeof value !== 'object' || value === null) return false;
  if (Array.isArray(value)) return value.length > 0;
  return Object.values(value).some((field) => field !== undefined);
}

/** Writes a block whose first line begins with `first` and whose other lines begin with `indent`; the two are equally wide. */
function writeBlock(block: Block, first: string, indent: string, lines: string[]): void {
  let start = first;
  if (Array.isArray(block)) {
    for (const item of block as readonly unknown[]) {
      if (isBlock(item)) writeBlock(item, `${start}- `, `${indent}  `, lines);
      else lines.push(`${start}- ${scalar(item)}`);
      start = indent;
    }
    return;
  }
  for (const [name, field] of Object.entries(block)) {
    if (field === undefined) continue;
    if (isBlock(field)) {
      lines.push(`${start}${scalar(name)}:`);
      const deeper = Array.isArray(field) ? indent : `${indent}  `;
      writeBlock(field, deeper, deeper, lines);
    } else {
      lines.push(`${start}${scalar(name)}: ${scalar(field)}`);
    }
    start = indent;
  }
}

function scalar(value: unknown): string {
  if (Array.isArray(value)) return '[]';
  if (typeof value === 'string') return isWord(value) ? value : quoted(value);
  if (typeof value === 'object' && value !== null) return '{}';
  return JSON.stringify(value) ?? 'null';
}

/** True for text that every reader takes as text without quotes. */
function isWord(text: string): boolean {
  return PLAIN.test(text) && !RESERVED.has(text.toLowerCase()) && !EXPONENT.test(text);
}

/** JSON lets some characters stand as they are that YAML wants escaped. */
function quoted(text: string): string {
  return JSON.stringify(text).replace(/[\u007f-\u009f\u2028\u2029\ufeff\ufffe\uffff]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}
