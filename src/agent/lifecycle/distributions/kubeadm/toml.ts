/**
 * Setting single keys in TOML as containerd prints it (`containerd config dump`): one key a line, tables as headers. Containerd's own whole configuration is taken and changed in the few
 * places that a cluster needs, so that everything else that was set stays.
 */

const quoteFree = (header: string) => header.replaceAll(/['"]/g, '');

/** Text of a value; strings with everything escaped that TOML wants escaped. */
export const tomlString = (value: string) => JSON.stringify(value);

/** Sets `key` of the table `table` (dotted, quoted parts as `plugins."io.containerd.grpc.v1.cri"`) to `value`, which is TOML. Makes the table where there is none. */
export function setToml(text: string, table: string, key: string, value: string): string {
  const rows = text.split('\n');
  const at = findTable(rows, table);
  if (at < 0) return `${text.replace(/\n*$/, '\n')}\n[${table}]\n  ${key} = ${value}\n`;
  const end = endOfTable(rows, at);
  const indent = /^\s*/.exec(rows[at] ?? '')?.[0] ?? '';
  const row = `${indent}  ${key} = ${value}`;
  const existing = rows.findIndex((line, index) => index > at && index < end && keyOf(line) === key);
  if (existing >= 0) rows.splice(existing, 1, row);
  else rows.splice(at + 1, 0, row);
  return rows.join('\n');
}

/** Value of a key as TOML text; undefined when it is not set. */
export function getToml(text: string, table: string, key: string): string | undefined {
  const rows = text.split('\n');
  const at = table === '' ? -1 : findTable(rows, table);
  if (at < 0 && table !== '') return undefined;
  const line = rows.slice(at + 1, endOfTable(rows, at)).find((row) => keyOf(row) === key);
  return line?.slice(line.indexOf('=') + 1).trim();
}

/** Removes a table with everything below it. */
export function dropToml(text: string, table: string): string {
  const wanted = quoteFree(table);
  let inside = false;
  return text
    .split('\n')
    .filter((line) => {
      const header = headerOf(line);
      if (header !== undefined) inside = header === wanted || header.startsWith(`${wanted}.`);
      return !inside;
    })
    .join('\n');
}

const headerOf = (line: string): string | undefined => {
  const match = /^\s*\[([^[\]]+)\]\s*(#.*)?$/.exec(line);
  return match?.[1] === undefined ? undefined : quoteFree(match[1].trim());
};
const keyOf = (line: string) => /^\s*([A-Za-z0-9_-]+)\s*=/.exec(line)?.[1];
const findTable = (rows: readonly string[], table: string) => rows.findIndex((line) => headerOf(line) === quoteFree(table));
const endOfTable = (rows: readonly string[], at: number) => {
  const next = rows.findIndex((line, index) => index > at && /^\s*\[/.test(line));
  return next < 0 ? rows.length : next;
};
