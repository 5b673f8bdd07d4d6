import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { undoAtExit } from './leftovers.ts';

export type LabFolder = { path: string; remove(): void };

const prefix = 'fairlead-lab-';
const remove = (path: string) => rmSync(path, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });

function ownerIsDead(path: string): boolean {
  try {
    process.kill(Number(readFileSync(join(path, 'owner'), 'utf8')), 0);
    return false;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'ESRCH';
  }
}

/** Makes the folder of a lab (mode 0700) in the system's temporary folder, and removes those of labs that were killed. */
export function createLabFolder(): LabFolder {
  for (const entry of readdirSync(tmpdir())) {
    if (entry.startsWith(prefix) && ownerIsDead(join(tmpdir(), entry))) remove(join(tmpdir(), entry));
  }
  const path = mkdtempSync(join(tmpdir(), prefix));
  writeFileSync(join(path, 'owner'), String(process.pid));
  const forget = undoAtExit(() => remove(path));
  return {
    path,
    remove() {
      forget();
      remove(path);
    },
  };
}
