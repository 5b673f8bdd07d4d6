import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { badRequest, StatusError, tooLarge, unsupportedMediaType } from '../../kube/status.ts';
import { scanJson } from './json-scan.ts';
import type { BodyOptions, BodyType } from './resource.ts';
import { parseYaml } from './yaml-body.ts';

/** Default limit of a body in bytes, that of kube-apiserver. */
export const MAX_BODY_BYTES = 3 * 1024 * 1024;

const TYPES: readonly BodyType[] = ['application/json', 'application/yaml'];
const duplicates = new WeakMap<object, readonly string[]>();

/** Paths of the fields that stood twice in the body that was parsed into `value`; decode() reports them. Empty for values from elsewhere. */
export function duplicateFields(value: unknown): readonly string[] {
  return (typeof value === 'object' && value !== null && duplicates.get(value)) || [];
}

/**
 * Reads and parses the body of a request: undefined when empty, else what JSON or YAML text stands for. No Content-Type means JSON
 * (kubectl create --raw sends none). Throws StatusError 413 beyond `limit` bytes, 415 for other types and for encoded bodies, 400 for text
 * that cannot be read. After 413 the rest of the body is still on the connection: answer with `Connection: close`.
 * How long a body may take is the listener's affair; `signal` ends the wait.
 */
export async function readBody(request: IncomingMessage, options: BodyOptions & { signal?: AbortSignal } = {}): Promise<unknown> {
  const limit = options.limit ?? MAX_BODY_BYTES;
  const type = contentType(request.headers, options.types ?? TYPES);
  const raw = await readBytes(request, limit, options.signal);
  if (raw.length === 0) return undefined;
  const known = type();
  const untyped = options.untypedYaml && (request.headers['content-type'] ?? '') === '';
  return parseBody(raw, untyped && !looksLikeJson(raw) ? 'application/yaml' : known);
}

/** Every object and list of JSON begins with a bracket; so does YAML in flow style, which is JSON's kind of text as well. */
const looksLikeJson = (raw: Buffer) => /^[\s\uFEFF]*[{[]/.test(raw.subarray(0, 4_096).toString('utf8'));

/** Parses a body that was read already. Throws StatusError 400, or 413 for long YAML. */
export function parseBody(raw: Buffer, type: BodyType = 'application/json'): unknown {
  const text = decodeUtf8(raw);
  if (text.trim() === '') return undefined;
  const parsed = type === 'application/yaml' ? parseYaml(text) : parseJson(raw, text);
  if (parsed.duplicates.length > 0 && typeof parsed.value === 'object' && parsed.value !== null) {
    duplicates.set(parsed.value, parsed.duplicates);
  }
  return parsed.value;
}

function parseJson(raw: Buffer, text: string): { value: unknown; duplicates: string[] } {
  const found = scanJson(raw);
  try {
    return { value: JSON.parse(text), duplicates: found };
  } catch (error) {
    const why = error instanceof Error ? error.message.slice(0, 200) : String(error);
    throw badRequest(`the body is not valid JSON: ${why} (for YAML send Content-Type: application/yaml)`);
  }
}

function decodeUtf8(raw: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: false }).decode(raw);
  } catch {
    throw badRequest('the body is not UTF-8 text');
  }
}

/** Checks the headers at once; the type itself matters only when a body comes (curl names a form type for an empty one). */
function contentType(headers: IncomingHttpHeaders, types: readonly BodyType[]): () => BodyType {
  const encoding = (headers['content-encoding'] ?? '').trim().toLowerCase();
  if (encoding !== '' && encoding !== 'identity') {
    throw unsupportedMediaType(`the body of the request was encoded (Content-Encoding: ${encoding.slice(0, 64)}); send it plain`);
  }
  const header = headers['content-type'] ?? '';
  const [range = '', ...parameters] = header.split(';', 8);
  const name = range.trim().toLowerCase();
  const type = name === '' ? types[0] : types.find((known) => known === name);
  const charset = parameters.map((parameter) => parameter.trim().toLowerCase()).find((parameter) => parameter.startsWith('charset='));
  const readable = charset === undefined || ['utf-8', '"utf-8"', 'utf8'].includes(charset.slice('charset='.length));
  return () => {
    if (type && readable) return type;
    throw unsupportedMediaType(
      `the body of the request was in an unknown format (${header.slice(0, 128)}) - accepted media types include: ${types.join(', ')}`,
    );
  };
}

async function readBytes(request: IncomingMessage, limit: number, signal: AbortSignal | undefined): Promise<Buffer> {
  const tooLong = () => tooLarge(`Request entity too large: limit is ${limit}`);
  if (Number(request.headers['content-length'] ?? 0) > limit) throw tooLong();
  signal?.throwIfAborted();
  return await new Promise<Buffer>((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    const settle = (outcome: Buffer | Error) => {
      request.off('data', onData).off('end', onEnd).off('error', onGone).off('close', onGone);
      signal?.removeEventListener('abort', onAbort);
      if (outcome instanceof Error) reject(outcome);
      else resolve(outcome);
    };
    const onData = (chunk: Buffer) => {
      length += chunk.length;
      if (length <= limit) return void chunks.push(chunk);
      request.pause();
      settle(tooLong());
    };
    const onEnd = () => settle(Buffer.concat(chunks, length));
    const onGone = () => settle(badRequest('the request ended before its body was complete'));
    const onAbort = () =>
      settle(signal?.reason instanceof Error ? signal.reason : new StatusError(504, 'Timeout', 'the request was given up'));
    request.on('data', onData).on('end', onEnd).on('error', onGone).on('close', onGone);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}
