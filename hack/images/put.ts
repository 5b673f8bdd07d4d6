import { chmodSync, copyFileSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';

/** Copies a program. */
export function put(source: string, target: string): void {
  mkdirSync(dirname(target), { recursive: true });
  copyFileSync(source, target);
  chmodSync(target, 0o755);
}
