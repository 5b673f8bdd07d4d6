import { UsageError } from './exit.ts';

type Step = { field: string } | { index: number } | { all: true };
type Part = { text: string } | { path: Step[] } | { range: Step[]; body: Part[] };

/**
 * A renderer of kubectl's JSONPath templates (https://kubernetes.io/docs/reference/kubectl/jsonpath/): text, `{.a.b}`, `{['a.b']}`, `{[0]}`,
 * `{[-1]}`, `{[*]}`, `{.*}`, `{"\n"}` and `{range .items[*]}…{end}`. Filters, slices and `..` are not supported: UsageError.
 */
export function jsonPathTemplate(template: string): (object: unknown) => string {
  if (template === '') throw new UsageError('-o jsonpath needs a template: -o jsonpath={.status.phase}');
  const source = template.includes('{') ? template : `{${template}}`;
  const tokens = source.match(/\{(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^}"'])*\}|[^{]+/g) ?? [];
  if (tokens.join('') !== source) throw new UsageError(`the jsonpath template ${template} has an unclosed {`);
  const parts = parse(tokens, false);
  if (tokens.length > 0) throw new UsageError('the jsonpath template has an {end} without a {range}');
  return (object) => render(parts, object, object);
}

function parse(tokens: string[], inRange: boolean): Part[] {
  const parts: Part[] = [];
  for (let token = tokens.shift(); token !== undefined; token = tokens.shift()) {
    if (!token.startsWith('{')) {
      parts.push({ text: token });
      continue;
    }
    const inner = token.slice(1, -1).trim();
    if (inner === 'end') {
      if (inRange) return parts;
      tokens.unshift(token);
      return parts;
    }
    const quoted = /^(["'])(.*)\1$/s.exec(inner);
    if (quoted) parts.push({ text: unescaped(quoted[2] ?? '') });
    else if (inner.startsWith('range ')) parts.push({ range: steps(inner.slice(6).trim()), body: parse(tokens, true) });
    else parts.push({ path: steps(inner) });
  }
  if (inRange) throw new UsageError('the jsonpath template has a {range} without an {end}');
  return parts;
}

const unescaped = (text: string) => text.replace(/\\(.)/g, (_, letter: string) => ({ n: '\n', t: '\t', r: '\r' })[letter] ?? letter);

/** The steps of `.items[*].metadata.name`, also used by custom columns. */
export function steps(path: string): Step[] {
  const found: Step[] = [];
  let rest = path.replace(/^[$@]/, '');
  if (rest !== '' && !/^[.[]/.test(rest)) rest = `.${rest}`;
  while (rest !== '' && rest !== '.') {
    const match = /^(?:\.\*|\[\*\])|^\[(-?\d+)\]|^\[(?:'([^']*)'|"([^"]*)")\]|^\.((?:[^.[\]\\{}*?@]|\\.)+)/.exec(rest);
    if (!match) throw new UsageError(`the jsonpath ${path} has something that is not supported here, at "${rest}"`);
    const field = match[2] ?? match[3] ?? match[4]?.replace(/\\(.)/g, '$1');
    found.push(match[1] !== undefined ? { index: Number(match[1]) } : field !== undefined ? { field } : { all: true });
    rest = rest.slice(match[0].length);
  }
  return found;
}

/** The values at `path`; none when a step leads nowhere. */
export function valuesAt(object: unknown, path: readonly Step[]): unknown[] {
  let values = [object];
  for (const step of path) {
    values = values.flatMap((value) => {
      if (typeof value !== 'object' || value === null) return [];
      if ('all' in step) return Object.values(value);
      if ('index' in step) return Array.isArray(value) ? value.slice(step.index).slice(0, 1) : [];
      return step.field in value ? [(value as Record<string, unknown>)[step.field]] : [];
    });
  }
  return values;
}

export const shown = (value: unknown): string => (typeof value === 'object' ? JSON.stringify(value) : String(value));

function render(parts: readonly Part[], current: unknown, root: unknown): string {
  return parts
    .map((part) => {
      if ('text' in part) return part.text;
      if ('path' in part) return valuesAt(current, part.path).map(shown).join(' ');
      return valuesAt(current, part.range)
        .map((item) => render(part.body, item, root))
        .join('');
    })
    .join('');
}
