import { Readable } from 'node:stream';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { lines } from '../../src/kube/lines.ts';

async function collect(chunks: Buffer[]): Promise<string[]> {
  const found: string[] = [];
  for await (const line of lines(Readable.from(chunks))) found.push(line);
  return found;
}

test('lines come out whole however the bytes are cut, characters of several bytes among them', async () => {
  const text = fc.array(
    fc.string({ unit: 'grapheme', maxLength: 20 }).map((line) => line.replaceAll('\n', '')),
    { maxLength: 12 },
  );
  await fc.assert(
    fc.asyncProperty(text, fc.array(fc.nat(60), { maxLength: 20 }), async (wanted, cuts) => {
      const bytes = Buffer.from(wanted.map((line) => `${line}\n`).join(''));
      const at = [0, ...cuts.map((cut) => Math.min(cut, bytes.length)), bytes.length].sort((a, b) => a - b);
      const chunks = at.slice(1).map((end, index) => bytes.subarray(at[index] ?? 0, end));
      expect(await collect(chunks)).toEqual(wanted.filter((line) => line !== ''));
    }),
    { numRuns: 200 },
  );
});

test('an unfinished last line is dropped: a watch that was cut ends in the middle of an object', async () => {
  expect(await collect([Buffer.from('{"a":1}\n{"b"'), Buffer.from(':2')])).toEqual(['{"a":1}']);
  expect(await collect([])).toEqual([]);
});
