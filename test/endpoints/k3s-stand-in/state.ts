import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

/** Where a stand-in lives and what it is. */
export type Place = { at: (path: string) => string; version: string; faults: readonly string[] };

/** What the datastore holds. `schema` is the newest minor version that wrote it. */
export type State = { schema: number; unschedulable: boolean; applied: string[] };

const DATASTORE = '/var/lib/rancher/k3s/server/db/state.db';

export const minorOf = (version: string) => Number(/^v1\.(\d+)\./.exec(version)?.[1]);

export function readState(place: Place): State {
  const file = place.at(DATASTORE);
  if (!existsSync(file)) return { schema: minorOf(place.version), unschedulable: false, applied: [] };
  return JSON.parse(readFileSync(file, 'utf8')) as State;
}

export function writeState(place: Place, state: State): void {
  put(place.at(DATASTORE), JSON.stringify(state), 0o600);
}

/** Writes a file whole, making its folder. */
export function put(file: string, content: string, mode: number): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(`${file}.new`, content, { mode });
  renameSync(`${file}.new`, file);
}
