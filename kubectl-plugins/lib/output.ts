import { stringify } from 'yaml';
import { customColumns } from './custom-columns.ts';
import { UsageError } from './exit.ts';
import { jsonPathTemplate } from './jsonpath.ts';

type KubeObject = { kind?: string; apiVersion?: string; metadata?: { name?: string; managedFields?: unknown } };

/** How to print: for people, or one of kubectl's machine forms. */
export type Output = {
  form: 'human' | 'wide' | 'json' | 'yaml' | 'name' | 'template';
  /** Text of the objects, with the line end; a List when `list` or when there is more than one. Not for `human` and `wide`. */
  print(objects: readonly KubeObject[], list?: boolean): string;
};

const FORMS = ['json', 'yaml', 'name', 'wide', 'jsonpath=TEMPLATE', 'custom-columns=SPEC'];

/** Reads the value of -o. Throws UsageError for a form that is not known, or `wide` where there is no table. */
export function outputOf(value: string | undefined, tables: boolean): Output {
  const list = (objects: readonly KubeObject[], always: boolean) =>
    objects.length === 1 && !always ? objects[0] : { apiVersion: 'v1', kind: 'List', metadata: { resourceVersion: '' }, items: objects };
  const equals = value?.indexOf('=') ?? -1;
  const kind = equals < 0 ? value : value?.slice(0, equals);
  const argument = equals < 0 ? '' : (value?.slice(equals + 1) ?? '');
  switch (kind) {
    case undefined:
    case '':
      return { form: 'human', print: () => '' };
    case 'json':
      return { form: 'json', print: (objects, always = false) => `${JSON.stringify(list(objects.map(readable), always), undefined, 4)}\n` };
    case 'yaml':
      return {
        form: 'yaml',
        print: (objects, always = false) =>
          stringify(list(objects.map(readable), always), { sortMapEntries: true, lineWidth: 0, aliasDuplicateObjects: false }),
      };
    case 'name':
      return {
        form: 'name',
        print: (objects) => objects.map((object) => `${resourceOf(object)}/${object.metadata?.name ?? ''}\n`).join(''),
      };
    case 'jsonpath': {
      const render = jsonPathTemplate(argument);
      return { form: 'template', print: (objects, always = false) => render(list(objects, always)) };
    }
    case 'custom-columns': {
      const render = customColumns(argument);
      return { form: 'template', print: (objects) => render(objects) };
    }
    case 'wide':
      if (tables) return { form: 'wide', print: () => '' };
      break;
  }
  throw new UsageError(
    `unable to match a printer suitable for the output format "${value}", allowed formats are: ${(tables ? FORMS : FORMS.filter((f) => f !== 'wide')).join(', ')}`,
  );
}

/** Without managedFields, which nobody wants to read; kubectl leaves them out too. */
function readable(object: KubeObject): KubeObject {
  if (object.metadata?.managedFields === undefined) return object;
  const { managedFields: _, ...metadata } = object.metadata;
  return { ...object, metadata };
}

function resourceOf(object: KubeObject): string {
  const group = object.apiVersion?.includes('/') ? `.${object.apiVersion.split('/')[0]}` : '';
  return `${(object.kind ?? '').replace(/^Infra(?=Node$|Cluster$)/, '').toLowerCase()}${group}`;
}
