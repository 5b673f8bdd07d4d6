import { readFile } from 'node:fs/promises';

const LEAST_BYTES = 32;
const MOST_BYTES = 4096;

/**
 * The key of `--audit-log-key-file`: the bytes of the file without line ends at its end. Rejects with an Error that names the file when it
 * cannot be read, or holds fewer than 32 or more than 4096 bytes.
 */
export async function readAuditKey(path: string): Promise<Buffer> {
  const bytes = await readFile(path).catch((error: unknown) => {
    throw new Error(`audit log key ${path}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  });
  let end = bytes.length;
  while (end > 0 && (bytes[end - 1] === 0x0a || bytes[end - 1] === 0x0d)) end--;
  if (end < LEAST_BYTES || end > MOST_BYTES) {
    throw new Error(`audit log key ${path}: has ${end} bytes, needs ${LEAST_BYTES} to ${MOST_BYTES} (for example: openssl rand -hex 32)`);
  }
  return bytes.subarray(0, end);
}
