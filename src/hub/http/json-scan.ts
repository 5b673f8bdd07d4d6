import { badRequest } from '../../kube/status.ts';

/** Bounds on a parsed body: how deep it may nest, and how many values it may hold (a small body can make millions of objects). */
export const MAX_DEPTH = 256;
export const MAX_VALUES = 100_000;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

type Level = { keys: Set<string> | undefined; path: string; key: string; index: number; expectKey: boolean };

/**
 * Walks JSON text once before it is parsed, for what JSON.parse does not tell: nesting, number of values, `__proto__` as a name, and fields
 * that stand twice in one object (their paths are returned, as `spec.nodeName`). Throws StatusError 400 for the first three.
 * Text that is not JSON may pass; JSON.parse says so afterwards.
 */
export function scanJson(text: Buffer): string[] {
  const duplicates: string[] = [];
  const stack: Level[] = [];
  let level: Level | undefined;
  let values = 0;
  for (let at = 0; at < text.length; at++) {
    const byte = text[at];
    switch (byte) {
      case QUOTE: {
        const end = endOfString(text, at + 1);
        if (level?.keys && level.expectKey) {
          level.key = memberName(text, at, end);
          level.expectKey = false;
          const path = level.path ? `${level.path}.${level.key}` : level.key;
          if (level.keys.has(level.key)) duplicates.push(path);
          else level.keys.add(level.key);
        }
        at = end;
        break;
      }
      case 0x7b: // {
      case 0x5b: {
        // [
        if (stack.length >= MAX_DEPTH) throw badRequest(`the body nests deeper than ${MAX_DEPTH} levels`);
        if (++values > MAX_VALUES) throw tooMany();
        const isObject = byte === 0x7b;
        level = { keys: isObject ? new Set() : undefined, path: childPath(level), key: '', index: 0, expectKey: isObject };
        stack.push(level);
        break;
      }
      case 0x7d: // }
      case 0x5d: // ]
        stack.pop();
        level = stack.at(-1);
        break;
      case 0x2c: // ,
        if (++values > MAX_VALUES) throw tooMany();
        if (level?.keys) level.expectKey = true;
        else if (level) level.index++;
        break;
    }
  }
  return duplicates;
}

const tooMany = () => badRequest(`the body holds more than ${MAX_VALUES} values`);

function childPath(parent: Level | undefined): string {
  if (!parent) return '';
  if (!parent.keys) return `${parent.path}[${parent.index}]`;
  return parent.path ? `${parent.path}.${parent.key}` : parent.key;
}

/** Index of the closing quote, or the end of the text. */
function endOfString(text: Buffer, from: number): number {
  let at = text.indexOf(QUOTE, from);
  while (at >= 0) {
    let slashes = 0;
    while (text[at - 1 - slashes] === BACKSLASH && at - 1 - slashes >= from) slashes++;
    if (slashes % 2 === 0) return at;
    at = text.indexOf(QUOTE, at + 1);
  }
  return text.length;
}

function memberName(text: Buffer, quote: number, end: number): string {
  const raw = text.toString('utf8', quote + 1, end);
  const name = raw.includes('\\') ? unescaped(raw) : raw;
  if (name === '__proto__') throw forbiddenName();
  return name;
}

export const forbiddenName = () => badRequest('a field may not be named "__proto__"');

function unescaped(raw: string): string {
  try {
    return JSON.parse(`"${raw}"`) as string;
  } catch {
    return raw;
  }
}
