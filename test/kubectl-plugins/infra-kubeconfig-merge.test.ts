import { chmodSync, existsSync, lstatSync, readFileSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { waitFor } from '../../e2e/lab/wait.ts';
import type { ClusterEntry, UserEntry } from '../../src/kube/kubeconfig-file.ts';
import { type ClusterApi, startClusterApi } from './cluster-api.ts';
import { type Workbench, workbench } from './plugin.ts';

type Config = {
  'current-context': string;
  clusters: { name: string; cluster: ClusterEntry }[];
  contexts: { name: string; context: { cluster: string; user: string; namespace?: string } }[];
  users: { name: string; user: UserEntry }[];
};

let bench: Workbench;
let parent: ClusterApi;
let id: string;
let config: string;

beforeAll(async () => {
  bench = await workbench();
  parent = await startClusterApi();
}, 60_000);
afterAll(async () => {
  bench.close();
  await parent.close();
});
beforeEach(() => {
  id = parent.cluster('edge-1');
  config = bench.kubeconfig(parent);
});

const make = (...args: string[]) =>
  bench.run('kubectl-infra', [
    'kubeconfig',
    'edge-1',
    ...args,
    ...(args.some((a) => a.startsWith('--kubeconfig')) ? [] : [`--kubeconfig=${config}`]),
  ]);
const path = (cluster = id) => `/apis/proxies.clusternet.io/v1alpha1/sockets/${cluster}/proxy/direct`;
const read = (file: string) => parse(readFileSync(file, 'utf8')) as Config;

describe('--merge', () => {
  const merge = (file: string, ...args: string[]) =>
    bench.run('kubectl-infra', ['kubeconfig', 'edge-1', '--merge', ...args], { KUBECONFIG: file });

  test('adds a context beside the current one, which stays, as do comments, order and mode; the user is shared', async () => {
    const file = bench.file('merge-1', `# mine\n${readFileSync(config, 'utf8')}# the end\n`, 0o640);
    chmodSync(file, 0o640);
    const before = readFileSync(file, 'utf8');
    expect(await merge(file)).toEqual({
      code: 0,
      stderr: '',
      stdout: `context "edge-1" added to ${file}; use it: kubectl --context edge-1 get pods -A\n`,
    });
    const after = readFileSync(file, 'utf8');
    for (const line of before.split('\n')) expect(after).toContain(line);
    expect(read(file)).toMatchObject({
      'current-context': 'lab',
      clusters: [{ name: 'lab' }, { name: 'edge-1', cluster: { server: `${parent.url}${path()}` } }],
      contexts: [{ name: 'lab' }, { name: 'edge-1', context: { cluster: 'edge-1', user: 'tester' } }],
    });
    expect(read(file).users).toHaveLength(1);
    expect(statSync(file).mode & 0o777).toBe(0o640);
    expect(existsSync(`${file}.lock`)).toBe(false);
    // Again: renewed, not twice.
    expect(await merge(file, '-n', 'shop')).toMatchObject({ code: 0, stdout: expect.stringContaining('updated in') });
    expect(read(file).contexts).toHaveLength(2);
    expect(read(file).contexts[1]?.context.namespace).toBe('shop');
    const unhook = parent.api.fault((request) =>
      request.path === `${path()}/version` ? { code: 200, body: { gitVersion: 'v1.30.0' } } : undefined,
    );
    const { stdout } = await bench.run('kubectl-infra', ['version', '--context=edge-1'], { KUBECONFIG: file });
    unhook();
    expect(stdout).toContain('Kubernetes:  v1.30.0\n');
  });

  test('with other credentials it gets a user of its own', async () => {
    const file = bench.file('merge-2', readFileSync(config, 'utf8'));
    expect(await merge(file, '--token=other', '--context-name=e')).toMatchObject({ code: 0 });
    expect(read(file)).toMatchObject({
      users: [{ name: 'tester' }, { name: 'e', user: { token: 'other' } }],
      contexts: [{}, { context: { user: 'e' } }],
    });
  });

  test('names that lead elsewhere are not touched, unless asked to', async () => {
    const file = bench.file('merge-3', readFileSync(config, 'utf8'));
    const before = readFileSync(file, 'utf8');
    expect(await merge(file, '--context-name=lab')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('has a context "lab" already that does not lead to this cluster'),
    });
    expect(readFileSync(file, 'utf8')).toBe(before);
    expect(existsSync(`${file}.lock`)).toBe(false);
    expect(await merge(file)).toMatchObject({ code: 0 });
    // The cluster was registered anew under the same name: another id.
    parent.cluster('edge-1');
    expect(await merge(file)).toMatchObject({ code: 1 });
    expect(await merge(file, '--overwrite')).toMatchObject({ code: 0 });
    expect(read(file).clusters[1]?.cluster.server).not.toBe(`${parent.url}${path()}`);
  });

  test('several at the same time lose nothing, and a link stays a link', async () => {
    const file = bench.file('merge-4', readFileSync(config, 'utf8'));
    const link = join(bench.folder, 'link');
    rmSync(link, { force: true });
    symlinkSync(file, link);
    const names = ['a', 'b', 'c', 'd'];
    const codes = await Promise.all(names.map(async (name) => (await merge(link, `--context-name=${name}`)).code));
    expect(codes).toEqual([0, 0, 0, 0]);
    expect(lstatSync(link).isSymbolicLink()).toBe(true);
    expect(
      read(file)
        .contexts.map(({ name }) => name)
        .sort(),
    ).toEqual([...names, 'lab']);
  });

  test("waits for kubectl's lock", async () => {
    const file = bench.file('merge-5', readFileSync(config, 'utf8'));
    const lock = bench.file('merge-5.lock', '');
    const before = parent.api.seen.length;
    const running = bench.start('kubectl-infra', ['kubeconfig', 'edge-1', '--merge'], { KUBECONFIG: file });
    await waitFor(() => parent.api.seen.length > before, { what: 'the question about the cluster' });
    expect(read(file).contexts).toHaveLength(1);
    rmSync(lock);
    expect(await running.done).toMatchObject({ code: 0 });
    expect(read(file).contexts).toHaveLength(2);
    bench.file('merge-5.lock', '');
    const stopped = bench.start('kubectl-infra', ['kubeconfig', 'edge-1', '--merge'], { KUBECONFIG: file });
    const asked = parent.api.seen.length;
    await waitFor(() => parent.api.seen.length > asked, { what: 'the question about the cluster' });
    stopped.child.kill('SIGINT');
    expect(await stopped.done).toMatchObject({ code: 1, stderr: 'interrupted\n' });
    expect(existsSync(`${file}.lock`)).toBe(true);
  });

  test('of several files the first that is there is written, and one that has the context already', async () => {
    const [absent, first, second] = [
      join(bench.folder, 'absent'),
      bench.file('merge-6', readFileSync(config, 'utf8')),
      bench.file('merge-7', ''),
    ];
    expect(await merge([absent, second, first].join(':'))).toMatchObject({
      code: 0,
      stdout: expect.stringContaining(`added to ${second}`),
    });
    expect(existsSync(absent)).toBe(false);
    expect(read(second)).toMatchObject({ kind: 'Config', contexts: [{ name: 'edge-1', context: { user: 'tester' } }] });
    expect(await merge([first, second].join(':'))).toMatchObject({ code: 0, stdout: expect.stringContaining(`updated in ${second}`) });
    expect(read(first).contexts).toHaveLength(1);
  });

  test('a kubeconfig in JSON stays JSON, and one that is broken is left alone', async () => {
    const file = bench.file('merge-8', JSON.stringify(read(config)));
    expect(await merge(file)).toMatchObject({ code: 0 });
    expect((JSON.parse(readFileSync(file, 'utf8')) as Config).contexts).toHaveLength(2);
    const broken = bench.file('merge-9', 'contexts: [');
    expect(await make('--merge', `--kubeconfig=${broken}`)).toMatchObject({ code: 1 });
    expect(readFileSync(broken, 'utf8')).toBe('contexts: [');
  });
});
