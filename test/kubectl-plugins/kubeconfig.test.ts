import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { createAuthority, issueCertificate } from '../../e2e/lab/certificates.ts';
import { type FakeApi, startFakeApi } from './fake-api.ts';
import { type Workbench, workbench } from './plugin.ts';

let bench: Workbench;
let api: FakeApi;

beforeAll(async () => {
  bench = await workbench();
  api = await startFakeApi();
}, 60_000);
afterAll(async () => {
  bench.close();
  await api.close();
});
beforeEach(() => {
  api.requests.length = 0;
});

/** `kubectl infra nodes -o name`, which needs one authenticated request. */
const nodes = (args: string[], env: Record<string, string> = {}) => bench.run('kubectl-infra', ['nodes', '-oname', ...args], env);
const NAMES = 'node.infraops.michael.io/n1\nnode.infraops.michael.io/n2\nnode.infraops.michael.io/n3\nnode.infraops.michael.io/n4\n';
const reached = { code: 0, stdout: NAMES, stderr: '' };
const client = (name: string) => issueCertificate(api.authority, { commonName: name, usages: ['clientAuth'] });
const base64 = (text: string) => Buffer.from(text).toString('base64');

describe('users', () => {
  test('a token', async () => {
    expect(await nodes([`--kubeconfig=${bench.kubeconfig(api)}`])).toEqual(reached);
    expect(await nodes([`--kubeconfig=${bench.kubeconfig(api, { token: 'wrong' })}`])).toMatchObject({
      code: 1,
      stderr: 'error: from server (Unauthorized): Unauthorized\n',
    });
  });

  test('a token file, relative to the kubeconfig, which wins over a token beside it', async () => {
    bench.file('my-token', `${api.token}\n`);
    expect(await nodes([`--kubeconfig=${bench.kubeconfig(api, { tokenFile: 'my-token', token: 'wrong' })}`])).toEqual(reached);
  });

  test('a client certificate as data, and as files', async () => {
    const { certificate, key } = client('ann');
    const data = { 'client-certificate-data': base64(certificate), 'client-key-data': base64(key) };
    expect(await nodes([`--kubeconfig=${bench.kubeconfig(api, data)}`])).toEqual(reached);
    expect(api.requests.at(-1)?.certificate).toBe('ann');
    const bob = client('bob');
    bench.file('bob.crt', bob.certificate);
    bench.file('bob.key', bob.key);
    expect(await nodes([`--kubeconfig=${bench.kubeconfig(api, { 'client-certificate': 'bob.crt', 'client-key': 'bob.key' })}`])).toEqual(
      reached,
    );
    expect(api.requests.at(-1)?.certificate).toBe('bob');
  });

  test('basic authentication', async () => {
    expect(await nodes([`--kubeconfig=${bench.kubeconfig(api, { username: 'u', password: 'p' })}`])).toMatchObject({ code: 1 });
    expect(api.requests.at(-1)?.headers.authorization).toBe(`Basic ${base64('u:p')}`);
  });

  test('an OIDC id-token is used while it is valid, and named when it has expired', async () => {
    const token = (exp: number) => `h.${Buffer.from(JSON.stringify({ exp })).toString('base64url')}.s`;
    const user = (exp: number) => ({ 'auth-provider': { name: 'oidc', config: { 'id-token': token(exp) } } });
    const soon = Math.floor(Date.now() / 1000) + 600;
    await nodes([`--kubeconfig=${bench.kubeconfig(api, user(soon))}`]);
    expect(api.requests.at(-1)?.headers.authorization).toBe(`Bearer ${token(soon)}`);
    expect(await nodes([`--kubeconfig=${bench.kubeconfig(api, user(1))}`])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('has expired'),
    });
  });
});

describe('exec plugins', () => {
  /** A plugin that answers with `status` and keeps what it was told in the file `seen`. */
  const plugin = (name: string, status: object, apiVersion = 'client.authentication.k8s.io/v1') => {
    const answer = JSON.stringify({ apiVersion, kind: 'ExecCredential', status });
    return bench.file(
      name,
      `#!/bin/sh\nprintf '%s' "$KUBERNETES_EXEC_INFO" > '${join(bench.folder, 'seen')}'\nprintf '%s %s\\n' "$1" "$EXTRA" >> '${join(bench.folder, 'calls')}'\ncat <<'END'\n${answer}\nEND\n`,
      0o755,
    );
  };
  const exec = (command: string, more: object = {}) => ({
    exec: { apiVersion: 'client.authentication.k8s.io/v1', interactiveMode: 'Never', command, ...more },
  });
  const seen = async () =>
    JSON.parse(await import('node:fs/promises').then((fs) => fs.readFile(join(bench.folder, 'seen'), 'utf8'))) as {
      spec: { interactive: boolean; cluster?: object };
    };

  test('a token, with arguments, environment and KUBERNETES_EXEC_INFO', async () => {
    plugin('login', { token: api.token });
    const user = exec('./login', { args: ['--for=lab'], env: [{ name: 'EXTRA', value: 'more' }], provideClusterInfo: true });
    const extensions = [{ name: 'client.authentication.k8s.io/exec', extension: { audience: 'x' } }];
    expect(await nodes([`--kubeconfig=${bench.kubeconfig(api, user, { extensions })}`])).toEqual(reached);
    expect(await seen()).toEqual({
      kind: 'ExecCredential',
      apiVersion: 'client.authentication.k8s.io/v1',
      spec: {
        interactive: false,
        cluster: { server: api.url, 'certificate-authority-data': base64(api.authority.certificate), config: { audience: 'x' } },
      },
    });
    const fs = await import('node:fs/promises');
    expect(await fs.readFile(join(bench.folder, 'calls'), 'utf8')).toBe('--for=lab more\n');
  });

  test('a client certificate', async () => {
    const { certificate, key } = client('from-plugin');
    plugin('certificate', { clientCertificateData: certificate, clientKeyData: key });
    expect(await nodes([`--kubeconfig=${bench.kubeconfig(api, exec('./certificate'))}`])).toEqual(reached);
    expect(api.requests.at(-1)?.certificate).toBe('from-plugin');
    expect((await seen()).spec).toEqual({ interactive: false });
  });

  test('found in PATH', async () => {
    const folder = join(bench.folder, 'tools');
    mkdirSync(folder);
    writeFileSync(join(folder, 'in-path'), `#!/bin/sh\nexec '${plugin('elsewhere', { token: api.token })}'\n`);
    chmodSync(join(folder, 'in-path'), 0o755);
    expect(await nodes([`--kubeconfig=${bench.kubeconfig(api, exec('in-path'))}`], { PATH: `${folder}:${process.env['PATH']}` })).toEqual(
      reached,
    );
  });

  test('a refused token is asked for once more', async () => {
    const once = join(bench.folder, 'once');
    const answer = (token: string) =>
      JSON.stringify({ apiVersion: 'client.authentication.k8s.io/v1', kind: 'ExecCredential', status: { token } });
    bench.file(
      'renewing',
      `#!/bin/sh\nif [ -e '${once}' ]; then echo '${answer(api.token)}'; else touch '${once}'; echo '${answer('stale')}'; fi\n`,
      0o755,
    );
    expect(await nodes([`--kubeconfig=${bench.kubeconfig(api, exec('./renewing'))}`])).toEqual(reached);
    expect(api.requests.map(({ headers }) => headers.authorization)).toEqual(['Bearer stale', `Bearer ${api.token}`]);
  });

  test.each([
    [
      'not installed, with its hint',
      exec('nothing-of-this-name', { installHint: 'apt install it' }),
      /the exec plugin nothing-of-this-name is not installed\n\napt install it/,
    ],
    ['an exit code', exec('false'), /the exec plugin false ended with exit code 1/],
    ['no JSON', exec('echo', { args: ['secret'] }), /the exec plugin echo did not print JSON\n$/],
    [
      'an old version',
      exec('true', { apiVersion: 'client.authentication.k8s.io/v1alpha1' }),
      /has apiVersion "client.authentication.k8s.io\/v1alpha1"/,
    ],
    ['a terminal that is not there', exec('true', { interactiveMode: 'Always' }), /needs a terminal/],
  ])('%s is one clear error', async (_, user, message) => {
    const { code, stderr } = await nodes([`--kubeconfig=${bench.kubeconfig(api, user)}`]);
    expect(code).toBe(1);
    expect(stderr).toMatch(message);
    expect(stderr).not.toContain('secret');
  });
});

describe('files and flags', () => {
  const write = (name: string, config: object) => bench.file(name, stringify({ apiVersion: 'v1', kind: 'Config', ...config }));
  const cluster = () => ({ server: api.url, 'certificate-authority-data': base64(api.authority.certificate) });

  test('several files in KUBECONFIG: the first to set a value wins, missing ones are passed over', async () => {
    const first = write('first', { 'current-context': 'a', users: [{ name: 'u', user: { token: api.token } }] });
    const second = write('second', {
      'current-context': 'other',
      contexts: [{ name: 'a', context: { cluster: 'c', user: 'u' } }],
      users: [{ name: 'u', user: { token: 'wrong' } }],
      clusters: [{ name: 'c', cluster: cluster() }],
    });
    const third = write('third', { clusters: [{ name: 'c', cluster: { server: 'https://127.0.0.1:1' } }] });
    expect(await nodes([], { KUBECONFIG: [join(bench.folder, 'none'), first, '', second, third].join(':') })).toEqual(reached);
  });

  test('~/.kube/config is the default', async () => {
    const home = join(bench.folder, 'home');
    mkdirSync(join(home, '.kube'), { recursive: true });
    const config = stringify({
      'current-context': 'x',
      contexts: [{ name: 'x', context: { cluster: 'x', user: 'x' } }],
      clusters: [{ name: 'x', cluster: cluster() }],
      users: [{ name: 'x', user: { token: api.token } }],
    });
    writeFileSync(join(home, '.kube', 'config'), config);
    expect(await nodes([], { HOME: home })).toEqual(reached);
  });

  test('--context, --cluster and --user choose entries', async () => {
    const config = write('many', {
      contexts: [
        { name: 'good', context: { cluster: 'good', user: 'good' } },
        { name: 'bad', context: { cluster: 'bad', user: 'bad' } },
      ],
      clusters: [
        { name: 'good', cluster: cluster() },
        { name: 'bad', cluster: { server: 'https://127.0.0.1:1' } },
      ],
      users: [
        { name: 'good', user: { token: api.token } },
        { name: 'bad', user: { token: 'wrong' } },
      ],
      'current-context': 'bad',
    });
    const with_ = (...args: string[]) => nodes(['--kubeconfig', config, ...args]);
    expect(await with_('--context', 'good')).toEqual(reached);
    expect(await with_('--cluster=good', '--user=good')).toEqual(reached);
    expect(await with_('--cluster=good')).toMatchObject({ code: 1, stderr: 'error: from server (Unauthorized): Unauthorized\n' });
    expect(await with_('--context=nope')).toMatchObject({
      code: 1,
      stderr: `error: context "nope" does not exist (${config}); there are: good, bad\n`,
    });
    expect(await with_('--user=nope', '--context=good')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('user "nope" does not exist'),
    });
  });

  test('everything by flags, without a kubeconfig', async () => {
    const ca = bench.file('ca.crt', api.authority.certificate);
    expect(await nodes(['-s', api.url, '--certificate-authority', ca, '--token', api.token])).toEqual(reached);
    const { certificate, key } = client('flags');
    const files = [`--client-certificate=${bench.file('flag.crt', certificate)}`, `--client-key=${bench.file('flag.key', key)}`];
    expect(await nodes([`--server=${api.url}`, '--insecure-skip-tls-verify', ...files])).toEqual(reached);
    expect(api.requests.at(-1)?.certificate).toBe('flags');
  });

  test('the certificate of the server is verified', async () => {
    const stranger = createAuthority('stranger');
    const wrong = bench.kubeconfig(api, undefined, { 'certificate-authority-data': base64(stranger.certificate) });
    expect(await nodes([`--kubeconfig=${wrong}`])).toMatchObject({ code: 1, stdout: '' });
    expect(api.requests).toHaveLength(0);
    expect(await nodes([`--kubeconfig=${wrong}`, '--insecure-skip-tls-verify'])).toEqual(reached);
    const named = bench.kubeconfig(api, undefined, { 'tls-server-name': 'wrong.example.test' });
    expect(await nodes([`--kubeconfig=${named}`])).toMatchObject({ code: 1, stderr: expect.stringContaining('wrong.example.test') });
    expect(await nodes([`--kubeconfig=${named}`, '--tls-server-name=api.example.test'])).toEqual(reached);
  });

  test('impersonation by flags, and by the kubeconfig', async () => {
    const flags = [
      '--as=ann',
      '--as-group=g1',
      '--as-group',
      'g2',
      '--as-uid=7',
      '--as-user-extra=scopes=read',
      '--as-user-extra=scopes=write',
    ];
    expect(await nodes([`--kubeconfig=${bench.kubeconfig(api)}`, ...flags])).toEqual(reached);
    expect(api.requests.at(-1)?.headers).toMatchObject({
      'impersonate-user': 'ann',
      'impersonate-group': 'g1, g2',
      'impersonate-uid': '7',
      'impersonate-extra-scopes': 'read, write',
    });
    const user = { token: api.token, as: 'bob', 'as-groups': ['h'], 'as-uid': '8', 'as-user-extra': { 'example.com/k': ['v'] } };
    expect(await nodes([`--kubeconfig=${bench.kubeconfig(api, user)}`])).toEqual(reached);
    expect(api.requests.at(-1)?.headers).toMatchObject({
      'impersonate-user': 'bob',
      'impersonate-group': 'h',
      'impersonate-uid': '8',
      'impersonate-extra-example.com%2fk': 'v',
    });
  });

  test('all flags of "kubectl options" are accepted', async () => {
    const accepted =
      '--cache-dir=/tmp --disable-compression --log-flush-frequency=5s --match-server-version -n x --profile=none --profile-output=x --request-timeout=5s -v=0 --vmodule=a=1 --warnings-as-errors --kuberc=off';
    expect(await nodes([`--kubeconfig=${bench.kubeconfig(api)}`, ...accepted.split(' ')])).toEqual(reached);
  });

  test('a server that does not answer is given up after --request-timeout', async () => {
    const deaf = createServer((socket) => socket.on('error', () => socket.destroy()).resume());
    await new Promise<void>((resolve) => deaf.listen(0, '127.0.0.1', resolve));
    try {
      const address = deaf.address();
      const server = `https://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`;
      const { code, stderr } = await nodes(['--server', server, '--token=x', '--request-timeout=300ms']);
      expect({ code, stderr }).toMatchObject({ code: 1, stderr: expect.stringContaining('no answer within 300 ms') });
    } finally {
      await new Promise((resolve) => deaf.close(resolve));
    }
  });
});
