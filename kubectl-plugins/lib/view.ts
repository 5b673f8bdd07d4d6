import type { Table } from './table.ts';

type Named = { metadata?: { name?: string; resourceVersion?: string } };

/** Columns of our own, for objects whose server has none that say what is wanted. */
export type View<T extends Named> = {
  columns: readonly { name: string; wide?: boolean }[];
  cells(object: T, now: number): string[];
  /** Which objects of a list are shown. One that was shown once is shown again when it changes. */
  keep(object: T): boolean;
};

/** Objects as the Table that a server would have given. */
export function tableOf<T extends Named>(view: View<T>, objects: readonly T[], resourceVersion?: string): Table {
  return {
    kind: 'Table',
    ...(resourceVersion !== undefined && { metadata: { resourceVersion } }),
    columnDefinitions: view.columns.map(({ name, wide }) => ({ name, type: 'string', priority: wide ? 1 : 0 })),
    rows: objects.map((object) => ({
      cells: view.cells(object, Date.now()),
      object: { metadata: { ...object.metadata } },
    })),
  };
}
