import { notAcceptable } from '../../kube/status.ts';
import { yamlText } from './yaml-text.ts';

/** One clause of an Accept header. `params` has no `q`; keys are lower-case. */
export type AcceptClause = { type: string; subtype: string; q: number; params: Map<string, string> };

/** What an object may be turned into for the client: `as`, `g` and `v` of the Accept clause. */
export type Conversion = { kind: string; group: string; version: string };

/** What is answered: a media type of the offered ones and, when the client asked for one, a conversion of the allowed ones. */
export type Negotiated = { mediaType: string; convert?: Conversion };

export const JSON_TYPE = 'application/json';
export const YAML_TYPE = 'application/yaml';
/** Media types of a single answer; a watch is JSON only. */
export const OBJECT_TYPES: readonly string[] = [JSON_TYPE, YAML_TYPE];

const metaV1 = (kind: string): Conversion => ({ kind, group: 'meta.k8s.io', version: 'v1' });
export const TABLE = metaV1('Table');
export const PARTIAL = metaV1('PartialObjectMetadata');
export const PARTIAL_LIST = metaV1('PartialObjectMetadataList');
/** Conversions of one object, of a list and of a watch (whose events are single objects). */
export const OBJECT_CONVERSIONS: readonly Conversion[] = [TABLE, PARTIAL];
export const LIST_CONVERSIONS: readonly Conversion[] = [TABLE, PARTIAL_LIST];

/** More clauses than this in one header are not looked at: no client sends them, and each is tried against every offer. */
const MAX_CLAUSES = 32;

/** The clauses of an Accept header, most wanted first: by q, then the more specific, then as written. Those with q=0 or without a `/` are left out. */
export function parseAccept(header: string): AcceptClause[] {
  const clauses: AcceptClause[] = [];
  for (const part of header.split(',', MAX_CLAUSES)) {
    const [range = '', ...rest] = part.split(';', MAX_CLAUSES);
    const [type, subtype, extra] = range.trim().toLowerCase().split('/', 3);
    if (!type || !subtype || extra !== undefined) continue;
    const params = new Map<string, string>();
    let q = 1;
    for (const parameter of rest) {
      const equals = parameter.indexOf('=');
      const key = (equals < 0 ? parameter : parameter.slice(0, equals)).trim().toLowerCase();
      const value = equals < 0 ? '' : unquote(parameter.slice(equals + 1).trim());
      if (key === 'q') q = quality(value);
      else if (key) params.set(key, value);
    }
    if (q > 0) clauses.push({ type, subtype, q, params });
  }
  return clauses.sort((a, b) => b.q - a.q || specificity(b) - specificity(a));
}

function unquote(value: string): string {
  return value.length >= 2 && value.startsWith('"') && value.endsWith('"') ? value.slice(1, -1) : value;
}

function quality(value: string): number {
  const q = Number(value);
  return value !== '' && q >= 0 ? Math.min(q, 1) : 1;
}

function specificity(clause: AcceptClause): number {
  return (clause.type === '*' ? 0 : 1) + (clause.subtype === '*' ? 0 : 1);
}

/**
 * Chooses what to answer. No header means the first offer. A clause that asks for a conversion counts only when it is one of `conversions`;
 * then the next clause is tried, as kube-apiserver does it. undefined: nothing fits.
 */
export function tryNegotiate(
  accept: string | undefined,
  offered: readonly string[],
  conversions: readonly Conversion[] = [],
): Negotiated | undefined {
  const [first] = offered;
  if (first === undefined) return undefined;
  if (!accept) return { mediaType: first };
  for (const clause of parseAccept(accept)) {
    const mediaType = offered.find((offer) => matches(clause, offer));
    if (mediaType === undefined) continue;
    const { params } = clause;
    // `stream=watch` is how a watch may be asked for and says nothing new; other streams and `sv` (server version) do not exist here.
    if ((params.get('stream') ?? 'watch') !== 'watch' || params.get('sv')) continue;
    if (!params.has('as') && !params.has('g') && !params.has('v')) return { mediaType };
    const convert = conversions.find((c) => c.kind === params.get('as') && c.group === params.get('g') && c.version === params.get('v'));
    if (convert) return { mediaType, convert };
  }
  return undefined;
}

/** As tryNegotiate; throws StatusError 406 with the offered types when nothing fits. */
export function negotiate(accept: string | undefined, offered: readonly string[], conversions: readonly Conversion[] = []): Negotiated {
  const found = tryNegotiate(accept, offered, conversions);
  if (!found) throw notAcceptable([...offered, ...conversions.map((c) => `${JSON_TYPE};as=${c.kind};v=${c.version};g=${c.group}`)]);
  return found;
}

function matches({ type, subtype }: AcceptClause, offer: string): boolean {
  if (type === '*') return subtype === '*';
  return subtype === '*' ? offer.startsWith(`${type}/`) : offer === `${type}/${subtype}`;
}

/** An answer's text in the negotiated media type. `pretty` is the query parameter of that name (`true`, `1`: indented JSON). */
export function encodeObject(object: object, mediaType: string, pretty?: string | null): string {
  if (mediaType === YAML_TYPE) return yamlText(object);
  const indented = pretty === 'true' || pretty === '1' || pretty === '';
  return indented ? `${JSON.stringify(object, undefined, 2)}\n` : `${JSON.stringify(object)}\n`;
}
