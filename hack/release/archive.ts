import { gzipSync } from 'node:zlib';

export type ArchiveFile = { name: string; content: Buffer; executable?: boolean };

const BLOCK = 512;

/** A gzipped tar (ustar) of files, the same bytes for the same content: no times, no owners. Names up to 100 bytes. */
export function tarGz(files: readonly ArchiveFile[]): Buffer {
  const parts: Buffer[] = [];
  for (const { name, content, executable } of files) {
    if (Buffer.byteLength(name) > 100) throw new Error(`the name ${name} is too long for a tar archive`);
    parts.push(header(name, content.length, executable === true), content, Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK));
  }
  return gzipSync(Buffer.concat([...parts, Buffer.alloc(2 * BLOCK)]), { level: 9 });
}

function header(name: string, size: number, executable: boolean): Buffer {
  const block = Buffer.alloc(BLOCK);
  const octal = (value: number, length: number) => `${value.toString(8).padStart(length - 1, '0')}\0`;
  block.write(name, 0);
  block.write(octal(executable ? 0o755 : 0o644, 8), 100);
  block.write(octal(0, 8), 108);
  block.write(octal(0, 8), 116);
  block.write(octal(size, 12), 124);
  block.write(octal(0, 12), 136);
  block.write('        ', 148);
  block.write('0', 156);
  block.write('ustar\x0000', 257);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return block;
}
