import { UsageError } from './exit.ts';
import { shown, steps, valuesAt } from './jsonpath.ts';
import { columnsText } from './table.ts';

/** A renderer of `-o custom-columns=NAME:.metadata.name,PHASE:.status.phase`. Throws UsageError for a wrong specification. */
export function customColumns(specification: string): (objects: readonly unknown[]) => string {
  const columns = specification.split(',').map((column) => {
    const colon = column.indexOf(':');
    if (colon < 1) throw new UsageError(`custom-columns takes HEADER:JSONPATH,…, not "${column}"`);
    return { header: column.slice(0, colon), path: steps(column.slice(colon + 1).replace(/^\{(.*)\}$/, '$1')) };
  });
  return (objects) =>
    columnsText([
      columns.map((column) => column.header),
      ...objects.map((object) => columns.map(({ path }) => valuesAt(object, path).map(shown).join(',') || '<none>')),
    ]);
}
