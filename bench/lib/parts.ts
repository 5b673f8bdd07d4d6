import { printReport, type Row } from './report.ts';

/** What measures some rows of a report, by the name that chooses it. */
export type Parts<Env> = Record<string, { title: string; run: (env: Env) => Promise<Row[]> }>;

export const say = (text: string) => process.stderr.write(`bench: ${text}\n`);

/** The parts that the first argument names (`small,bulk`), or all of them, in their own order. An unknown name ends the process with 2. */
export function chosenParts<Env>(parts: Parts<Env>): Parts<Env>[string][] {
  const wanted = process.argv[2]?.split(',') ?? Object.keys(parts);
  const unknown = wanted.find((name) => !parts[name]);
  if (unknown !== undefined) {
    say(`unknown rows ${unknown}; there are ${Object.keys(parts).join(', ')}`);
    process.exit(2);
  }
  return Object.entries(parts).flatMap(([name, part]) => (wanted.includes(name) ? [part] : []));
}

/** Measures one part after the other, prints the table and sets the exit code: 1 when a row was missed. */
export async function measureParts<Env>(parts: readonly Parts<Env>[string][], env: Env): Promise<void> {
  const rows: Row[] = [];
  for (const { title, run } of parts) {
    say(title);
    try {
      const found = await run(env);
      for (const { name, value, detail } of found) say(`  ${name}: ${value} (${detail})`);
      rows.push(...found);
    } catch (error) {
      // A row that could not be measured is missed, and the others are still worth knowing.
      const detail = error instanceof Error ? error.message : String(error);
      rows.push({ name: title, value: Number.NaN, limit: 0, ok: false, detail });
    }
  }
  printReport(rows);
  process.exitCode = rows.every((row) => row.ok) ? 0 : 1;
}
