import { randomUUID } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
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
const made = async (...args: string[]) => {
  const { code, stdout, stderr } = await make(...args);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return parse(stdout) as Config;
};
const path = (cluster = id) => `/apis/proxies.clusternet.io/v1alpha1/sockets/${cluster}/proxy/direct`;
const read = (file: string) => parse(readFileSync(file, 'utf8')) as Config;
const base64 = (text: string) => Buffer.from(text).toString('base64');

describe('through the parent', () => {
  test('the address of the parent with the path of the child; it reaches the child as the same user', async () => {
    const own = await made();
    expect(own).toEqual({
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'edge-1',
      clusters: [
        {
          name: 'edge-1',
          cluster: { server: `${parent.url}${path()}`, 'certificate-authority-data': base64(parent.authority.certificate) },
        },
      ],
      contexts: [{ name: 'edge-1', context: { cluster: 'edge-1', user: 'edge-1' } }],
      users: [{ name: 'edge-1', user: { token: parent.token } }],
    });
    const file = bench.file('own', stringify(own));
    const unhook = parent.api.fault((request) =>
      request.path === `${path()}/version` ? { code: 200, body: { gitVersion: 'v1.30.0' } } : undefined,
    );
    const { stdout } = await bench.run('kubectl-infra', ['version', `--kubeconfig=${file}`]);
    unhook();
    expect(stdout).toContain('Kubernetes:  v1.30.0\n');
    expect(parent.api.seen.find((request) => request.path === `${path()}/version`)?.headers.authorization).toBe(`Bearer ${parent.token}`);
  });

  test('proxy, server name, extensions and impersonation come along; a path behind the server stays', async () => {
    const cluster = {
      server: `${parent.url}/k8s/parent/`,
      'tls-server-name': 'api.example.test',
      'proxy-url': 'socks5://127.0.0.1:1',
      extensions: [{ name: 'client.authentication.k8s.io/exec', extension: { audience: 'a' } }],
    };
    const user = { token: 't', as: 'ann', 'as-groups': ['g'] };
    const file = bench.kubeconfig(parent, user, cluster);
    // Nothing listens there: the id is enough when the parent does not let us look.
    const elsewhere = await bench.run('kubectl-infra', ['kubeconfig', 'edge-1', `--kubeconfig=${file}`]);
    expect(elsewhere.code).toBe(1);
    const unhook = parent.api.fault((request) =>
      request.path.includes('/clusters/')
        ? { code: 403, body: { kind: 'Status', code: 403, reason: 'Forbidden', message: 'no' } }
        : undefined,
    );
    const direct = bench.kubeconfig(parent, user, { ...cluster, 'proxy-url': undefined, 'tls-server-name': 'api.example.test' });
    const { stdout } = await bench.run('kubectl-infra', ['kubeconfig', id, `--kubeconfig=${direct}`]);
    const named = await bench.run('kubectl-infra', ['kubeconfig', 'edge-1', `--kubeconfig=${direct}`]);
    unhook();
    expect(named).toMatchObject({ code: 1, stderr: expect.stringContaining('Forbidden') });
    const own = parse(stdout) as Config;
    expect(own.clusters[0]?.cluster).toMatchObject({
      server: `${parent.url}/k8s/parent${path()}`,
      'tls-server-name': 'api.example.test',
      extensions: cluster.extensions,
    });
    expect(own.users[0]?.user).toEqual(user);
  });

  test('files are made absolute, and an exec plugin is copied as it is', async () => {
    const folder = join(bench.folder, 'relative');
    mkdirSync(folder, { recursive: true });
    bench.file('relative/ca.crt', parent.authority.certificate);
    bench.file('relative/token', parent.token);
    const exec = { apiVersion: 'client.authentication.k8s.io/v1', interactiveMode: 'Never', command: 'aws', args: ['eks', 'get-token'] };
    const file = (user: object) =>
      bench.file(
        'relative/config',
        stringify({
          'current-context': 'lab',
          contexts: [{ name: 'lab', context: { cluster: 'lab', user: 'u' } }],
          clusters: [{ name: 'lab', cluster: { server: parent.url, 'certificate-authority': 'ca.crt' } }],
          users: [{ name: 'u', user }],
        }),
      );
    const own = await made(`--kubeconfig=${file({ tokenFile: 'token' })}`);
    expect(own.clusters[0]?.cluster['certificate-authority']).toBe(join(folder, 'ca.crt'));
    expect(own.users[0]?.user).toEqual({ tokenFile: join(folder, 'token') });
    // A token by flag lets the plugin look; the entry of the file has its own.
    expect((await made(`--kubeconfig=${file({ exec, token: parent.token })}`)).users[0]?.user.exec).toEqual(exec);
    const script = bench.file(
      'relative/login',
      `#!/bin/sh\necho '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"${parent.token}"}}'\n`,
    );
    chmodSync(script, 0o755);
    expect((await made(`--kubeconfig=${file({ exec: { ...exec, command: './login' } })}`)).users[0]?.user.exec?.command).toBe(script);
  });

  test('context name, namespace, and a note when the cluster is away', async () => {
    expect((await made('--context-name=bern', '-n', 'shop')).contexts).toEqual([
      { name: 'bern', context: { cluster: 'bern', user: 'bern', namespace: 'shop' } },
    ]);
    parent.cluster('edge-1', { connected: false });
    expect(await make()).toMatchObject({
      code: 0,
      stderr: expect.stringContaining('note: cluster edge-1 is not connected now (agent gone'),
    });
  });

  test('an unknown cluster, and mistakes in the command line', async () => {
    const infra = (...args: string[]) => bench.run('kubectl-infra', ['kubeconfig', ...args, `--kubeconfig=${config}`]);
    expect(await infra('nope')).toEqual({
      code: 1,
      stdout: '',
      stderr:
        'error: from server (NotFound): "nope" not found; see kubectl infra clusters, and kubectl infra requests for those that wait for approval\n',
    });
    expect((await infra(id)).stdout).toContain(path());
    // A cluster that calls itself like the id of another.
    const other = randomUUID();
    parent.cluster(other);
    expect(await infra(other)).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringContaining('is the name of a cluster with the id'),
    });
    expect(await infra()).toMatchObject({ code: 2 });
    expect(await infra('a', 'b')).toMatchObject({ code: 2 });
    expect(await infra('edge-1', '--merge', '-o', 'x')).toMatchObject({ code: 2 });
    expect(await infra('edge-1', '--context-name=')).toMatchObject({ code: 2 });
  });
});

describe('--direct', () => {
  test("the hub's own address with its own CA; the proxy stays, what belongs to the parent's address goes", async () => {
    parent.cluster('edge-1', { directURL: 'https://hub.example.test:6443/', directCA: base64(parent.authority.certificate) }, id);
    const file = bench.kubeconfig(parent, undefined, {
      'tls-server-name': 'api.example.test',
      'certificate-authority-data': base64(`\n${parent.authority.certificate}`),
    });
    expect((await made('--direct', `--kubeconfig=${file}`)).clusters[0]?.cluster).toEqual({
      server: `https://hub.example.test:6443${path()}`,
      'certificate-authority-data': base64(parent.authority.certificate),
    });
    expect((await made('--direct=https://192.0.2.7:8443')).clusters[0]?.cluster.server).toBe(`https://192.0.2.7:8443${path()}`);
  });

  test('a hub that offers none, an address without TLS, a CA that is none', async () => {
    expect(await make('--direct')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('the hub offers no direct address for cluster "edge-1"'),
    });
    expect(await make('--direct=http://192.0.2.7')).toMatchObject({ code: 2, stderr: expect.stringContaining('must be https://') });
    expect(await make('--direct=https://192.0.2.7')).toMatchObject({ code: 0, stderr: expect.stringContaining('gives no CA') });
    parent.cluster('edge-1', { directURL: 'http://hub.example.test', directCA: 'x' });
    expect(await make('--direct')).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('status.directURL') });
    parent.cluster('edge-1', { directURL: 'https://hub.example.test', directCA: base64('x') });
    expect(await make('--direct')).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('holds no certificate') });
  });
});

describe('a credential of the child', () => {
  const extras = async (...args: string[]) => (await made(...args)).users[0]?.user;

  test('a token, a token file and a certificate travel as extras of the impersonated clusternet', async () => {
    const token = bench.file('child-token', 'child-secret\n');
    const expected = { token: parent.token, as: 'clusternet', 'as-user-extra': { 'clusternet-token': ['child-secret'] } };
    expect(await extras(`--as-child-token-file=${token}`)).toEqual(expected);
    const child = (user: object) =>
      `--child-kubeconfig=${bench.file('child', stringify({ 'current-context': 'c', contexts: [{ name: 'c', context: { cluster: 'c', user: 'u' } }], users: [{ name: 'u', user }] }))}`;
    expect(await extras(child({ token: 'child-secret' }))).toEqual(expected);
    expect(await extras(child({ tokenFile: 'child-token' }))).toEqual(expected);
    bench.file('c.key', 'KEY');
    expect(await extras(child({ 'client-certificate-data': base64('CERT'), 'client-key': 'c.key' }))).toEqual({
      token: parent.token,
      as: 'clusternet',
      'as-user-extra': { 'clusternet-certificate': [base64('CERT')], 'clusternet-privatekey': [base64('KEY')] },
    });
    expect(await make(child({ exec: { command: 'x' } }))).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('cannot be handed on'),
    });
  });

  test('not two at once, not beside another impersonation, and a wrong file is not shown', async () => {
    const token = bench.file('child-token', 'child-secret\nsecond line');
    const { code, stderr } = await make(`--as-child-token-file=${token}`);
    expect({ code, stderr }).toEqual({ code: 1, stderr: `error: ${token} does not hold a bearer token\n` });
    bench.file('child-token', 'child-secret');
    expect(await make(`--as-child-token-file=${token}`, `--child-kubeconfig=${config}`)).toMatchObject({ code: 2 });
    expect(await make(`--as-child-token-file=${token}`, '--as=ann')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('you impersonate ann already'),
    });
  });
});

describe('-o', () => {
  test('a new file with mode 0600; one that is there only with --overwrite', async () => {
    const file = join(bench.folder, 'edge-1.kubeconfig');
    rmSync(file, { force: true });
    expect(await make('-o', file)).toMatchObject({ code: 0, stdout: expect.stringContaining(`kubectl --kubeconfig ${file}`) });
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(read(file)['current-context']).toBe('edge-1');
    expect(await make('-o', file)).toMatchObject({ code: 1, stderr: expect.stringContaining('is there already') });
    expect(await make('-o', file, '--overwrite', '--context-name=second')).toMatchObject({ code: 0 });
    expect(read(file)['current-context']).toBe('second');
  });
});
