import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, type ParsedNode, parseDocument, type YAMLMap } from 'yaml';
import { badRequest, tooLarge } from '../../kube/status.ts';
import { forbiddenName, MAX_DEPTH, MAX_VALUES } from './json-scan.ts';

/** YAML is read into a syntax tree hundreds of times its size, at about 0.3 MB/s when it is hostile: hence a bound of its own. In bytes. */
export const MAX_YAML_BYTES = 32 * 1024;

type Reading = { duplicates: string[]; values: number };

/**
 * Reads one YAML document of the JSON subset: plain scalars, lists, maps with text keys; no aliases, tags or merge keys, so that a few lines
 * cannot stand for millions. `duplicates` are the paths of fields that stand twice in one map; the last one counts.
 * Throws StatusError 400, or 413 beyond MAX_YAML_BYTES.
 */
export function parseYaml(text: string): { value: unknown; duplicates: string[] } {
  if (Buffer.byteLength(text) > MAX_YAML_BYTES) {
    throw tooLarge(`Request entity too large: a YAML body may have ${MAX_YAML_BYTES} bytes; send more as application/json`);
  }
  refuseDeep(text);
  const lines = new LineCounter();
  let document: ReturnType<typeof parseDocument>;
  try {
    document = parseDocument(text, { uniqueKeys: false, lineCounter: lines, prettyErrors: false, schema: 'core', logLevel: 'error' });
  } catch (error) {
    // The parser recurses; text that exhausts its stack nests too deeply for us as well.
    throw badRequest(`the body is not valid YAML: ${error instanceof RangeError ? 'it nests too deeply' : messageOf(error)}`);
  }
  const [problem] = document.errors;
  if (problem) {
    const { line } = lines.linePos(problem.pos[0]);
    const many = problem.code === 'MULTIPLE_DOCS';
    throw badRequest(`the body is not valid YAML: line ${line}: ${many ? 'one document is expected, there are more' : problem.message}`);
  }
  const reading: Reading = { duplicates: [], values: 0 };
  return { value: plain(document.contents, '', 0, reading), duplicates: reading.duplicates };
}

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error));

/** Depth is bounded before parsing: flow brackets by counting them, block nesting by the width of what opens a line (spaces and dashes). */
function refuseDeep(text: string): void {
  let flow = 0;
  let opening = 0;
  let atStart = true;
  for (let at = 0; at < text.length; at++) {
    const char = text.charCodeAt(at);
    if (char === 0x0a) {
      atStart = true;
      opening = 0;
      continue;
    }
    if (atStart && (char === 0x20 || char === 0x09 || char === 0x2d || char === 0x3f)) opening++;
    else atStart = false;
    if (char === 0x5b || char === 0x7b) flow++;
    else if ((char === 0x5d || char === 0x7d) && flow > 0) flow--;
    if (flow > MAX_DEPTH || opening > 4 * MAX_DEPTH) {
      throw badRequest(`the body nests deeper than ${MAX_DEPTH} levels`);
    }
  }
}

function plain(node: ParsedNode | Node | null | undefined, path: string, depth: number, reading: Reading): unknown {
  if (depth > MAX_DEPTH) throw badRequest(`the body nests deeper than ${MAX_DEPTH} levels`);
  if (++reading.values > MAX_VALUES) throw badRequest(`the body holds more than ${MAX_VALUES} values`);
  if (node === null || node === undefined) return null;
  if (isAlias(node)) throw badRequest('the body is not valid YAML: aliases (*name) are not taken');
  if (isScalar(node)) {
    const { value } = node;
    return typeof value === 'bigint' ? Number(value) : value;
  }
  if (isSeq(node)) return node.items.map((item, index) => plain(item as Node, `${path}[${index}]`, depth + 1, reading));
  if (isMap(node)) return plainMap(node, path, depth, reading);
  throw badRequest('the body is not valid YAML');
}

function plainMap(node: YAMLMap, path: string, depth: number, reading: Reading): object {
  const result: Record<string, unknown> = {};
  for (const { key, value } of node.items) {
    if (!isScalar(key)) throw badRequest('the body is not valid YAML: the key of a map must be text');
    const name = String(key.value);
    if (name === '__proto__') throw forbiddenName();
    const child = path ? `${path}.${name}` : name;
    if (Object.hasOwn(result, name)) reading.duplicates.push(child);
    result[name] = plain(value as Node, child, depth + 1, reading);
  }
  return result;
}
