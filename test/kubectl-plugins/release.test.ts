import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parse } from 'yaml';
import { tarGz } from '../../hack/release/archive.ts';
import { type Workbench, workbench } from './plugin.ts';

let bench: Workbench;
beforeAll(async () => {
  bench = await workbench();
}, 60_000);
afterAll(() => bench.close());

test.each(['module', 'commonjs'])('a bundle runs in a folder whose package.json says "%s"', (type) => {
  const folder = join(bench.folder, type);
  mkdirSync(folder);
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ type }));
  const file = join(folder, 'kubectl-infra');
  writeFileSync(file, readFileSync(join(bench.bin, 'kubectl-infra')));
  expect(execFileSync(process.execPath, [file, 'version', '--client'], { encoding: 'utf8' })).toMatch(/^Client: /);
});

test('a Node.js that is too old gets one clear line', () => {
  const old = bench.file('old.cjs', 'delete process.getBuiltinModule;');
  const { status, stderr } = spawnSync(process.execPath, ['--require', old, join(bench.bin, 'kubectl-restart'), 'n1'], {
    encoding: 'utf8',
  });
  expect({ status, stderr }).toEqual({
    status: 1,
    stderr: `error: kubectl-restart needs Node.js 20.16 or newer, and "node" in PATH is ${process.version}\n`,
  });
});

test('archives are read by tar, keep the executable bit, and are the same each time', () => {
  const content = Buffer.from('#!/bin/sh\necho hello\n');
  const files = [
    { name: 'kubectl-x', content, executable: true },
    { name: 'LICENSE', content: Buffer.alloc(512, 'l') },
  ];
  const archive = join(bench.folder, 'x.tar.gz');
  writeFileSync(archive, tarGz(files));
  expect(tarGz(files).equals(readFileSync(archive))).toBe(true);
  execFileSync('tar', ['-xzf', archive, '-C', bench.folder]);
  expect(execFileSync(join(bench.folder, 'kubectl-x'), { encoding: 'utf8' })).toBe('hello\n');
  expect(statSync(join(bench.folder, 'LICENSE')).size).toBe(512);
});

test('krew manifests name the archives that are there, with their checksums', () => {
  const hack = (name: string) => fileURLToPath(new URL(`../../hack/${name}`, import.meta.url));
  const out = join(bench.folder, 'dist');
  execFileSync(process.execPath, [hack('build.ts'), '--only=plugins', '--archives', `--out=${out}`]);
  execFileSync(process.execPath, [hack('krew.ts'), '--base-url=https://example.com/r/', '--homepage=https://example.com', `--out=${out}`], {
    stdio: 'ignore',
  });
  for (const name of ['restart', 'infra']) {
    const manifest = parse(readFileSync(join(out, 'krew', 'plugins', `${name}.yaml`), 'utf8')) as {
      metadata: { name: string };
      spec: { version: string; platforms: { uri: string; sha256: string; bin: string; selector: { matchLabels: { os: string } } }[] };
    };
    expect(manifest.metadata.name).toBe(name);
    expect(manifest.spec.version).toMatch(/^v\d+\.\d+\.\d+/);
    // Without executables only the bundle for Macs is there.
    expect(manifest.spec.platforms.map(({ selector }) => selector.matchLabels.os)).toEqual(['darwin', 'darwin']);
    for (const { uri, sha256, bin } of manifest.spec.platforms) {
      const archive = join(out, 'archives', uri.slice('https://example.com/r/'.length));
      expect(createHash('sha256').update(readFileSync(archive)).digest('hex')).toBe(sha256);
      expect(execFileSync('tar', ['-tzf', archive], { encoding: 'utf8' })).toBe(`${bin}\nLICENSE\n`);
    }
  }
});
