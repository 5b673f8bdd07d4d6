import { badRequest } from '../../kube/status.ts';
import { ACTION_LABEL, NODE_LABEL, OBJECT_LABEL, PHASE_LABEL } from './annotations.ts';
import { nodeLabel } from './operations/store.ts';

type Term = { field: string; operator: '=' | '!='; value: string };

/** Terms of a field selector: `a=b,c!=d`, with `\` before `,`, `=` and `\` in values. Throws StatusError 400. */
export function parseFieldSelector(text: string): Term[] {
  const terms: Term[] = [];
  for (const part of text.split(/(?<=(?<!\\)(?:\\\\)*),/)) {
    if (part === '') continue;
    const match = /^([^=!\\]+)(==|=|!=)((?:[^\\,=]|\\[\\,=])*)$/.exec(part);
    if (!match) throw badRequest(`invalid field selector: ${JSON.stringify(part.slice(0, 64))}; can't understand it`);
    const [, field = '', operator, value = ''] = match;
    terms.push({ field, operator: operator === '!=' ? '!=' : '=', value: value.replace(/\\([\\,=])/g, '$1') });
  }
  return terms;
}

const escapeValue = (value: string) => value.replace(/[\\,=]/g, '\\$&');

/** In kube-apiserver's words; kubectl puts the resource and the selectors before them. */
const unsupported = (field: string) => badRequest(`field label not supported: ${field.slice(0, 64)}`);

export const NODE_FIELDS = ['metadata.name', 'spec.unschedulable'];
export const OPERATION_FIELDS = ['metadata.name', 'spec.nodeName', 'spec.action', 'status.phase'];

/** The field selector for core Nodes; both know the same fields. */
export function nodeFieldSelector(text: string): string {
  for (const { field } of parseFieldSelector(text)) if (!NODE_FIELDS.includes(field)) throw unsupported(field);
  return text;
}

/**
 * Selectors of operations as selectors of the ConfigMaps behind them: the fields that can be selected stand there as labels, so the API server selects,
 * pages and tells about objects that come and go through the selection just as it does for core objects.
 */
export function operationSelectors(labelSelector: string, fieldSelector: string): { labelSelector: string; fieldSelector?: string } {
  const labels = [`${OBJECT_LABEL}=operation`];
  if (labelSelector) labels.push(labelSelector);
  const fields: string[] = [];
  for (const { field, operator, value } of parseFieldSelector(fieldSelector)) {
    if (field === 'metadata.name') fields.push(`metadata.name${operator}${escapeValue(value)}`);
    else if (field === 'spec.nodeName') labels.push(`${NODE_LABEL}${operator}${labelValue(nodeLabel(value))}`);
    else if (field === 'spec.action') labels.push(`${ACTION_LABEL}${operator}${labelValue(value)}`);
    else if (field === 'status.phase') labels.push(`${PHASE_LABEL}${operator}${labelValue(value)}`);
    else throw unsupported(field);
  }
  return { labelSelector: labels.join(','), ...(fields.length > 0 && { fieldSelector: fields.join(',') }) };
}

/** A value that no label can have selects nothing; the API server would call the whole selector invalid. */
const labelValue = (value: string) => (/^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$/.test(value) ? value : 'no-such-value');
