/** One line of a benchmark's table. `detail` says what the value was made from; `at` tells which side of the limit is good. */
export type Row = { name: string; value: number; limit: number; ok: boolean; detail: string };

/** A row whose value must not exceed the limit. */
export const atMost = (name: string, value: number, limit: number, detail: string): Row => ({
  name,
  value: round(value),
  limit,
  ok: value <= limit,
  detail,
});
/** A row whose value must reach the limit. */
export const atLeast = (name: string, value: number, limit: number, detail: string): Row => ({
  name,
  value: round(value),
  limit,
  ok: value >= limit,
  detail,
});

const round = (value: number) => Math.round(value * 1000) / 1000;

/** Prints the table and, last, one line of JSON. */
export function printReport(rows: readonly Row[]): void {
  const width = Math.max(...rows.map((row) => row.name.length));
  for (const { name, value, limit, ok, detail } of rows) {
    process.stdout.write(
      `${ok ? 'ok  ' : 'MISS'}  ${name.padEnd(width)}  ${String(value).padStart(8)}  limit ${String(limit).padStart(6)}  ${detail}\n`,
    );
  }
  process.stdout.write(`${JSON.stringify({ rows: rows.map(({ name, value, limit, ok }) => ({ name, value, limit, ok })) })}\n`);
}
