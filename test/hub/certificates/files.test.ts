import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { certificateFiles } from '../../../src/hub/certificates/files.ts';
import { eventually } from '../auth/eventually.ts';
import { makeCa, makeServer } from '../auth/pki.ts';

const ca = makeCa('server-ca');
let folder: string;
let stop: AbortController;
let problems: string[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fairlead-certificates-'));
  stop = new AbortController();
  problems = [];
});
afterEach(async () => {
  stop.abort();
  await rm(folder, { recursive: true });
});

const watch = (certFile: string, keyFile: string) =>
  certificateFiles({ certFile, keyFile, signal: stop.signal, intervalMs: 20, onProblem: (problem) => problems.push(problem) });

test('files written anew are taken into use; a broken pair keeps the one before and is reported once', async () => {
  const [certFile, keyFile] = [join(folder, 'a.crt'), join(folder, 'a.key')];
  const write = async (pair: { cert: string; key: string }) => {
    await writeFile(certFile, pair.cert);
    await writeFile(keyFile, pair.key);
  };
  const [first, second, third] = [makeServer(ca), makeServer(ca), makeServer(ca)];
  await write(first);
  const certificate = await watch(certFile, keyFile);
  expect(certificate.current()).toEqual({ cert: first.cert, key: first.key });
  const told: string[] = [];
  certificate.onChange((pair) => told.push(pair.cert), stop.signal);
  await write(second);
  await eventually('the second pair', () => certificate.current().cert === second.cert);
  problems.length = 0;
  await write({ cert: third.cert, key: first.key });
  // A file may be read while it is being written: that is another problem, and passes.
  const mismatch = () => problems.filter((problem) => problem.includes('do not belong together'));
  await eventually('the problem', () => mismatch().length > 0);
  expect(mismatch()).toEqual([expect.stringContaining(certFile)]);
  await eventually('the problem as it is now', () => certificate.problem()?.includes('do not belong together'));
  expect(certificate.current().cert).toBe(second.cert);
  await rm(keyFile);
  await eventually('the missing file', () => problems.some((problem) => problem.includes('ENOENT')));
  await write(third);
  await eventually('the third pair', () => certificate.current().cert === third.cert);
  await eventually('no problem', () => certificate.problem() === undefined);
  expect(told).toEqual([second.cert, third.cert]);
  expect(problems.join()).not.toContain('PRIVATE KEY');
});

test("Kubernetes' swap of the ..data link is seen", async () => {
  const first = makeServer(ca);
  const second = makeServer(ca);
  async function version(name: string, pair: { cert: string; key: string }): Promise<void> {
    await mkdir(join(folder, name));
    await writeFile(join(folder, name, 'tls.crt'), pair.cert);
    await writeFile(join(folder, name, 'tls.key'), pair.key);
    await symlink(name, join(folder, '..data_tmp'));
    await rename(join(folder, '..data_tmp'), join(folder, '..data'));
  }
  await version('..2026_01', first);
  for (const file of ['tls.crt', 'tls.key']) await symlink(join('..data', file), join(folder, file));
  const certificate = await watch(join(folder, 'tls.crt'), join(folder, 'tls.key'));
  await version('..2026_02', second);
  await eventually('the second pair', () => certificate.current().cert === second.cert);
  expect(certificate.current().key).toBe(second.key);
});

test('a broken pair at the start is an error that names the files', async () => {
  const certFile = join(folder, 'a.crt');
  await expect(watch(certFile, certFile)).rejects.toThrow(/serving certificate .*a\.crt.*ENOENT/);
  await writeFile(certFile, 'nonsense');
  await expect(watch(certFile, certFile)).rejects.toThrow(/a\.crt.*no certificate/);
  await writeFile(certFile, makeServer(ca).cert);
  await expect(watch(certFile, certFile)).rejects.toThrow(/a\.crt/);
});
