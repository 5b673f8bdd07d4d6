import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { parseOptions } from '../../src/agent/options.ts';
import { type ClusterApi, startClusterApi } from './cluster-api.ts';
import { type Workbench, workbench } from './plugin.ts';

const SECRETS = '/api/v1/namespaces/kube-system/secrets';
type KubeObject = { kind: string; metadata: { name: string }; data?: object; stringData?: object };
type PodSpec = {
  containers: { args: string[]; env: { valueFrom?: { configMapKeyRef?: { name: string; key: string; optional?: boolean } } }[] }[];
  volumes: { configMap?: { name: string; items: { key: string }[] }; secret?: { secretName: string } }[];
};
type Secret = { metadata: { name: string }; type: string; stringData: Record<string, string> };

let bench: Workbench;
let parent: ClusterApi;
let config: string;

beforeAll(async () => {
  bench = await workbench();
}, 60_000);
afterAll(() => bench.close());
beforeEach(async () => {
  parent = await startClusterApi();
  config = bench.kubeconfig(parent);
});
afterEach(() => parent.close());

const joinCommand = (...args: string[]) => bench.run('kubectl-infra', ['join-command', `--kubeconfig=${config}`, ...args]);
const secrets = () => parent.api.all(SECRETS) as unknown as Secret[];
/** The objects of a manifest. */
const objects = (text: string) => parseAllDocuments(text).map((document) => document.toJS() as KubeObject);

type Call = { program: string; args: string[]; stdin: string };

/** Runs what was printed in a shell where `programs` only note how they were called; `install` works, without the group. Folders of the machine are under `root`. */
function runPrinted(script: string, programs: string[]): { calls: Call[]; root: string } {
  const root = mkdtempSync(join(bench.folder, 'machine-'));
  const note = `${process.execPath} -e '
    const { appendFileSync, readFileSync } = require("node:fs");
    const [program, ...args] = process.argv.slice(1);
    const stdin = args.includes("-") ? readFileSync(0, "utf8") : "";
    appendFileSync("${root}/calls", JSON.stringify({ program, args, stdin }) + "\\n");
  ' --`;
  mkdirSync(join(root, 'bin'));
  mkdirSync(join(root, 'etc'));
  const program = (name: string, text: string) => writeFileSync(join(root, 'bin', name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  for (const name of programs) program(name, `exec ${note} ${name} "$@"`);
  program('install', `set -- $(printf '%s ' "$@" | sed 's/-g [a-z-]* //')\nexec /usr/bin/install "$@"`);
  if (programs.includes('systemctl')) mkdirSync(join(root, 'run/systemd/system'), { recursive: true });
  execFileSync('sh', ['-e', '-c', script.replaceAll(/\/(etc\/fairlead-agent|run\/systemd)/g, `${root}$&`)], {
    env: { PATH: `${root}/bin:${process.env['PATH']}` },
  });
  const lines = readFileSync(join(root, 'calls'), 'utf8').trimEnd().split('\n');
  return { calls: lines.map((line) => JSON.parse(line) as Call), root };
}

test('makes a token that ends and can only ask for registration, and prints it in no argument of a process', async () => {
  const began = Date.now();
  const { code, stdout, stderr } = await joinCommand('--ttl=2h', '--cluster-name=edge-1');
  expect(code).toBe(0);
  const [secret, ...more] = secrets();
  expect(more).toEqual([]);
  const { expiration, 'token-id': id, 'token-secret': value, ...rest } = secret?.stringData ?? {};
  expect(secret).toMatchObject({ metadata: { name: `bootstrap-token-${id}` }, type: 'bootstrap.kubernetes.io/token' });
  expect(`${id}.${value}`).toMatch(/^[a-z0-9]{6}\.[a-z0-9]{16}$/);
  expect(rest).toEqual({
    description: 'Registration of cluster edge-1, made by kubectl infra join-command',
    'usage-bootstrap-authentication': 'true',
    'auth-extra-groups': 'system:bootstrappers:clusternet:register-cluster-token',
  });
  expect(expiration).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  expect(Math.abs(Date.parse(expiration ?? '') - began - 7_200_000)).toBeLessThan(60_000);
  expect(stderr).toContain(`delete secret bootstrap-token-${id}`);
  expect(stderr).not.toContain(value);

  const { calls } = runPrinted(stdout, ['kubectl']);
  expect(calls.map(({ args }) => args.join(' '))).toEqual([
    'apply -f -',
    'apply -k deploy/agent',
    '-n clusternet-system rollout status deployment/fairlead-agent',
    '-n clusternet-system delete secret fairlead-agent-bootstrap',
  ]);
  expect(objects(calls[0]?.stdin ?? '')).toMatchObject([
    { kind: 'Namespace', metadata: { name: 'clusternet-system' } },
    { kind: 'ConfigMap', data: { url: parent.url, name: 'edge-1', 'ca.crt': `${parent.authority.certificate.trimEnd()}\n` } },
    { kind: 'Secret', stringData: { token: `${id}.${value}` } },
  ]);
});

test('the objects are those that deploy/agent asks for', async () => {
  const agent = new URL('../../deploy/agent/deployment.yaml', import.meta.url);
  const deployment = readFileSync(agent, 'utf8');
  const [namespace, configMap, secret] = objects((await joinCommand('--print=manifest')).stdout);
  const { spec } = (parse(deployment) as { spec: { template: { spec: PodSpec } } }).spec.template;
  expect(namespace?.metadata.name).toBe((parse(deployment) as { metadata: { namespace: string } }).metadata.namespace);
  const keys = (spec.containers[0]?.env ?? []).flatMap(({ valueFrom }) => {
    const key = valueFrom?.configMapKeyRef;
    return key && !key.optional ? [key] : [];
  });
  const volumes = spec.volumes.map(({ configMap: map }) => map).filter((map) => map !== undefined);
  expect(new Set([...keys, ...volumes].map(({ name }) => name))).toEqual(new Set([configMap?.metadata.name]));
  const wanted = [...keys.map(({ key }) => key), ...volumes.flatMap(({ items }) => items.map(({ key }) => key))];
  expect(wanted.sort()).toEqual(Object.keys(configMap?.data ?? {}).sort());
  expect(spec.volumes.find(({ secret: one }) => one)?.secret?.secretName).toBe(secret?.metadata.name);
  expect(spec.containers[0]?.args.join(' ')).toContain('bootstrap/token');
  expect(Object.keys(secret?.stringData ?? {})).toEqual(['token']);
});

test('flags that the objects have no place for', async () => {
  config = bench.kubeconfig(parent, undefined, { 'tls-server-name': 'api.example.test' });
  const { stdout } = await joinCommand('--type=EdgeCluster');
  const patch = runPrinted(stdout, ['kubectl']).calls[2]?.args ?? [];
  expect(patch.slice(0, 6)).toEqual(['-n', 'clusternet-system', 'patch', 'deployment', 'fairlead-agent', '--type=json']);
  const values = (JSON.parse(patch.at(-1) ?? '') as { value: string }[]).map(({ value }) => value);
  expect(parseOptions(['--parent-url=https://x', ...values], {})).toMatchObject({
    parent: { serverName: 'api.example.test' },
    cluster: { type: 'EdgeCluster' },
  });
  expect((await joinCommand('--type=EdgeCluster', '--print=manifest')).stderr).toContain(
    'deploy/agent: --parent-server-name=api.example.test --cluster-type=EdgeCluster',
  );
});

test('commands for a machine, which the agent understands', async () => {
  const { stdout } = await joinCommand(
    '--machine',
    '--type=EdgeCluster',
    '--cluster-name=edge.bern',
    '--parent-url=https://parent.example.test:6443/',
  );
  const token = secrets().map(({ stringData }) => `${stringData['token-id']}.${stringData['token-secret']}`)[0];
  const { calls, root } = runPrinted(stdout, ['systemctl']);
  expect(calls.map(({ args }) => args)).toEqual([
    ['enable', 'fairlead-agent'],
    ['restart', 'fairlead-agent'],
  ]);
  const folder = `${root}/etc/fairlead-agent`;
  const [, flags = ''] = /^FAIRLEAD_AGENT_FLAGS=(.*)\n$/.exec(readFileSync(`${folder}/agent.env`, 'utf8')) ?? [];
  expect(parseOptions(flags.split(' '), {})).toMatchObject({
    bare: true,
    parent: { url: 'https://parent.example.test:6443', caFile: `${folder}/parent-ca.crt` },
    bootstrap: { file: `${folder}/bootstrap-token` },
    cluster: { name: 'edge.bern', type: 'EdgeCluster' },
  });
  expect(readFileSync(`${folder}/bootstrap-token`, 'utf8')).toBe(`${token}\n`);
  expect(readFileSync(`${folder}/parent-ca.crt`, 'utf8').trim()).toBe(parent.authority.certificate.trim());
  expect([statSync(`${folder}/bootstrap-token`).mode & 0o777, statSync(folder).mode & 0o777]).toEqual([0o600, 0o700]);
});

test('only certificates of the CA file are handed on', async () => {
  const file = bench.file('mixed.pem', `${parent.authority.key}\n${parent.authority.certificate}`);
  config = bench.kubeconfig(parent, undefined, {
    'certificate-authority-data': undefined,
    'certificate-authority': file,
    'tls-server-name': 'api.example.test',
  });
  const { code, stdout } = await joinCommand('--print=manifest');
  expect(code).toBe(0);
  expect(stdout).not.toContain('PRIVATE KEY');
  expect(objects(stdout)[1]?.data).toMatchObject({ 'ca.crt': `${parent.authority.certificate.trimEnd()}\n` });
});

test('a dry run makes no token and shows none', async () => {
  const client = await joinCommand('--dry-run=client', '--print=manifest');
  expect(client).toMatchObject({ code: 0, stderr: expect.stringContaining('no token was made (dry run)') });
  expect(objects(client.stdout)[2]?.stringData).toEqual({ token: '<TOKEN>' });
  expect(parent.api.seen).toEqual([]);
  const server = await joinCommand('--dry-run=server');
  expect(server).toMatchObject({ code: 0, stderr: expect.stringContaining('server dry run') });
  expect(parent.writes().map(({ query }) => query.get('dryRun'))).toEqual(['All']);
  expect(server.stdout).not.toContain(secrets()[0]?.stringData['token-secret']);
});

test('an id that is taken is not taken over', async () => {
  let first = true;
  parent.api.fault(({ method }) => {
    if (method !== 'POST' || !first) return undefined;
    first = false;
    return { code: 409, body: { kind: 'Status', code: 409, reason: 'AlreadyExists', message: 'exists' } };
  });
  expect(await joinCommand()).toMatchObject({ code: 0 });
  const names = parent.writes().map(({ body }) => (body as Secret).metadata.name);
  expect(new Set(names).size).toBe(2);
  expect(secrets().map(({ metadata }) => metadata.name)).toEqual([names[1]]);
});

test('what cannot be handed on safely is refused before a token is made', async () => {
  config = bench.kubeconfig(parent, undefined, { 'certificate-authority-data': undefined, 'insecure-skip-tls-verify': true });
  expect(await joinCommand()).toMatchObject({ code: 1, stderr: expect.stringContaining('there is no CA to hand on') });
  config = bench.kubeconfig(parent, undefined, { 'certificate-authority-data': undefined });
  expect(await joinCommand()).toMatchObject({ code: 1, stderr: expect.stringContaining('--certificate-authority FILE') });
  config = bench.kubeconfig(parent);
  for (const wrong of [
    '--parent-url=http://x',
    '--parent-url=https://u:p@x',
    '--parent-url=https://x/a b',
    '--ttl=10s',
    '--ttl=721h',
    '--print=helm',
    '--cluster-name=A B',
    '--type=-x',
    'edge-1',
  ]) {
    expect(await joinCommand(wrong), wrong).toMatchObject({ code: 2, stdout: '' });
  }
  expect(await joinCommand('--machine', '--print=manifest')).toMatchObject({ code: 2, stdout: '' });
  expect(parent.writes()).toEqual([]);
});
