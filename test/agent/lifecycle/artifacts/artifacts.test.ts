import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { artifactSource } from '../../../../src/agent/lifecycle/artifacts/artifact-source.ts';
import { selfSigned } from '../../../endpoints/self-signed.ts';
import { cleanUp } from '../../../support/clean-up.ts';

const { after, signal } = cleanUp();
const sumOf = (text: string) => createHash('sha256').update(text).digest('hex');
const KUBELET = 'kubernetes/v1.36.3/bin/kubelet';

async function folder(files: Record<string, string>): Promise<string> {
  const made = await mkdtemp(join(tmpdir(), 'fairlead-artifacts-'));
  after(() => rm(made, { recursive: true, force: true }));
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(made, path)), { recursive: true });
    await writeFile(join(made, path), content);
  }
  return made;
}

const good = { [KUBELET]: 'kubelet', SHA256SUMS: `${sumOf('kubelet')}  ${KUBELET}\n${sumOf('other')} *./cni/bin/bridge\n` };

/** An https server of `files`; redirects `/moved/PATH` to `/PATH`. */
async function server(files: Record<string, string>): Promise<{ url: string; ca: string; asked: string[] }> {
  const { key, cert } = selfSigned('localhost');
  const asked: string[] = [];
  const listening = createServer({ key, cert }, (request, response) => {
    const path = (request.url ?? '').slice(1);
    asked.push(path);
    if (path.startsWith('moved/')) response.writeHead(302, { location: `/${path.slice(6)}` }).end();
    else if (path.startsWith('plain/')) response.writeHead(302, { location: `http://localhost/${path}` }).end();
    else if (files[path] === undefined) response.writeHead(404).end();
    else response.end(files[path]);
  });
  await new Promise<void>((resolve) => listening.listen(0, 'localhost', resolve));
  after(() => {
    listening.closeAllConnections();
    listening.close();
  });
  return { url: `https://localhost:${(listening.address() as AddressInfo).port}`, ca: cert, asked };
}

test('a folder: listed by its index, fetched with its mode, checked', async () => {
  const to = join(await folder({}), 'deep/kubelet');
  const source = artifactSource(await folder(good));
  expect(await source.list('kubernetes/')).toEqual([KUBELET]);
  expect(await source.list('')).toEqual(['cni/bin/bridge', KUBELET]);
  await source.fetch(KUBELET, to, 0o755, signal());
  expect(await readFile(to, 'utf8')).toBe('kubelet');
  expect((await stat(to)).mode & 0o777).toBe(0o755);
  await expect(source.fetch('cni/bin/bridge', to, 0o755, signal())).rejects.toThrow(/stands in SHA256SUMS .* but is not there/);
  await expect(source.fetch('cni/bin/none', to, 0o755, signal())).rejects.toThrow(/has no artifact cni\/bin\/none/);
});

test('R65: what does not fit its sum is not left anywhere', async () => {
  const target = await folder({ kubelet: 'the one before' });
  const source = artifactSource(await folder({ ...good, [KUBELET]: 'swapped' }));
  await expect(source.fetch(KUBELET, join(target, 'kubelet'), 0o755, signal())).rejects.toThrow(
    `artifact ${KUBELET} is not what it should be: its SHA-256 is ${sumOf('swapped')}, and should be ${sumOf('kubelet')}`,
  );
  expect(await readdir(target)).toEqual(['kubelet']);
  expect(await readFile(join(target, 'kubelet'), 'utf8')).toBe('the one before');
});

test('paths that lead out of the source are refused, in the index, in a request and as a link', async () => {
  const outside = await folder({ secret: 'kubelet' });
  for (const path of ['../secret', '/etc/passwd', 'a/../../b', 'a//b', 'a\\b', './../b', 'a\u0000b', '.', '']) {
    const source = artifactSource(await folder({ ...good, SHA256SUMS: `${sumOf('kubelet')}  ${path}\n` }));
    await expect(source.list(''), path).rejects.toThrow(/the path must lead|is not "<sha256>/);
    await expect(artifactSource(await folder(good)).fetch(path, join(outside, 'x'), 0o600, signal()), path).rejects.toThrow(
      /the path must lead/,
    );
  }
  const linked = await folder({ SHA256SUMS: `${sumOf('kubelet')}  link\n` });
  await symlink(join(outside, 'secret'), join(linked, 'link'));
  await expect(artifactSource(linked).fetch('link', join(outside, 'x'), 0o600, signal())).rejects.toThrow(/leads out of it/);
  expect(await readdir(outside)).toEqual(['secret']);
});

test('a source without SHA256SUMS, or with one that is not such, is an error that says so', async () => {
  await expect(artifactSource(await folder({})).list('')).rejects.toThrow(/SHA256SUMS cannot be read/);
  await expect(artifactSource(await folder({ SHA256SUMS: 'hello\n' })).list('')).rejects.toThrow(/line 1 is not/);
  expect(() => artifactSource('http://example.org/x')).toThrow(/an https:\/\/ URL/);
  expect(() => artifactSource('relative/folder')).toThrow(/absolute path/);
});

test('an https URL: by its index, checked, its CA trusted only when given', async () => {
  const { url, ca, asked } = await server({
    [`store/${KUBELET}`]: 'kubelet',
    'store/SHA256SUMS': good.SHA256SUMS,
    'store/cni/bin/bridge': 'swapped',
  });
  const to = join(await folder({}), 'kubelet');
  const source = artifactSource(`${url}/store`, { ca });
  await source.fetch(KUBELET, to, 0o700, signal());
  expect(await readFile(to, 'utf8')).toBe('kubelet');
  expect(await source.list('cni/')).toEqual(['cni/bin/bridge']);
  await expect(source.fetch('cni/bin/bridge', to, 0o700, signal())).rejects.toThrow(/is not what it should be/);
  expect(asked.filter((path) => path.endsWith('SHA256SUMS'))).toHaveLength(1);
  source.refresh();
  await source.list('');
  expect(asked.filter((path) => path.endsWith('SHA256SUMS'))).toHaveLength(2);
  await expect(artifactSource(`${url}/store`).list('')).rejects.toThrow(/cannot be fetched/);
  await expect(artifactSource(`${url}/none`, { ca }).list('')).rejects.toThrow(/answers 404/);
  await expect(artifactSource(`${url}/plain`, { ca }).list('')).rejects.toThrow(/only https/);
  expect(await artifactSource(`${url}/moved/store`, { ca }).list('cni/')).toEqual(['cni/bin/bridge']);
});

test('without a source: official binaries with their .sha256, from the base that was set', async () => {
  const path = `v1.36.3/bin/linux/${process.arch === 'x64' ? 'amd64' : 'arm64'}/kubelet`;
  const { url, ca } = await server({ [path]: 'kubelet', [`${path}.sha256`]: `${sumOf('kubelet')}\n` });
  const to = join(await folder({}), 'kubelet');
  const source = artifactSource('', { downloadURL: url, ca });
  await source.fetch(KUBELET, to, 0o755, signal());
  expect(await readFile(to, 'utf8')).toBe('kubelet');
  expect(await source.list('')).toEqual([]);
  await expect(source.fetch('cni/bin/bridge', to, 0o755, signal())).rejects.toThrow(/not among the official downloads/);
});
