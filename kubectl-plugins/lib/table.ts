import { plainText } from './plain-text.ts';

/** A `meta.k8s.io/v1` Table, as far as it is printed. */
export type Table = {
  kind: string;
  metadata?: { resourceVersion?: string; continue?: string };
  columnDefinitions?: { name: string; type: string; priority?: number }[] | null;
  rows?: { cells: (string | number | boolean | null)[]; object?: { metadata?: { name?: string; resourceVersion?: string } } }[] | null;
};

/** Columns of text, three spaces apart, as kubectl prints them. `widths` grows to the widest cells and may be kept for the next rows. */
export function columnsText(rows: readonly (readonly string[])[], widths: number[] = []): string {
  for (const row of rows) {
    row.forEach((cell, at) => {
      widths[at] = Math.max(widths[at] ?? 0, cell.length);
    });
  }
  return rows
    .map(
      (row) =>
        `${row
          .map((cell, at) => cell.padEnd((widths[at] ?? 0) + 3))
          .join('')
          .trimEnd()}\n`,
    )
    .join('');
}

/** Prints Tables of one resource one after another: the header once, above the first row, and the columns in line. */
export function tablePrinter(wide: boolean, headers: boolean): (table: Table) => string {
  let columns: { name: string; at: number }[] = [];
  let headed = !headers;
  const widths: number[] = [];
  return (table) => {
    // Events of a watch carry the columns only the first time.
    if (columns.length === 0 && table.columnDefinitions) {
      columns = table.columnDefinitions
        .map(({ name, priority }, at) => ({ name: name.toUpperCase(), at, priority: priority ?? 0 }))
        .filter(({ priority }) => wide || priority === 0);
    }
    const rows = (table.rows ?? []).map(({ cells }) => columns.map(({ at }) => cellText(cells[at])));
    if (rows.length > 0 && !headed) {
      rows.unshift(columns.map(({ name }) => name));
      headed = true;
    }
    return columnsText(rows, widths);
  };
}

const cellText = (cell: string | number | boolean | null | undefined) => plainText(String(cell ?? '').split('\n')[0] ?? '');
