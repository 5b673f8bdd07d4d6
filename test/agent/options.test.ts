import { expect, test } from 'vitest';
import { FLAGS } from '../../src/agent/flags.ts';
import { type Options, parseOptions } from '../../src/agent/options.ts';
import { FlagError } from '../../src/kube/flags.ts';

const PARENT = '--parent-url=https://parent.example:6443';

function options(...args: string[]): Options {
  const parsed = parseOptions(args, {});
  if ('print' in parsed) throw new Error(`prints ${parsed.print}`);
  return parsed;
}
function refusal(...args: string[]): string {
  try {
    parseOptions(args, {});
  } catch (error) {
    if (error instanceof FlagError) return error.message;
    throw error;
  }
  return 'nothing was wrong';
}

test('with the parent alone: the defaults of the documentation', () => {
  expect(options(PARENT)).toMatchObject({
    parent: { url: 'https://parent.example:6443', caFile: '', ca: '' },
    direct: undefined,
    protocol: 'fairlead',
    tunnels: 2,
    bare: false,
    namespace: 'clusternet-system',
    cluster: { name: '', namespace: '', type: 'StandardCluster', labels: {}, syncMode: 'Pull' },
    allowTargets: [],
    allowIdentities: [],
    health: { address: '127.0.0.1', port: 0 },
    heartbeatMs: 180_000,
    shutdownTimeoutMs: 20_000,
    warnings: [],
  });
});

test('flags of clusternet mean the same as ours', () => {
  const theirs = options(
    '--cluster-reg-parent-url=https://p/',
    '--cluster-reg-token=abcdef.0123456789abcdef',
    '--cluster-reg-name=edge-1',
    '--cluster-reg-type=EdgeCluster',
    '--cluster-reg-namespace=edge',
    '--cluster-sync-mode=Dual',
    '--cluster-labels=zone=a,team=b',
    '--cluster-status-update-frequency=1m',
  );
  expect(theirs).toMatchObject({
    parent: { url: 'https://p' },
    bootstrap: { token: 'abcdef.0123456789abcdef' },
    cluster: { name: 'edge-1', namespace: 'edge', type: 'EdgeCluster', labels: { zone: 'a', team: 'b' }, syncMode: 'Dual' },
    heartbeatMs: 60_000,
  });
  expect(theirs.warnings.join()).toContain('--cluster-reg-token');
  expect(theirs.warnings.join()).not.toContain('0123456789abcdef');
});

test('the token may come by the environment, and what is given to the hub directly inherits the CA of the parent', () => {
  const parsed = parseOptions([PARENT], { FAIRLEAD_BOOTSTRAP_TOKEN: ' abc.def\n' });
  expect(parsed).toMatchObject({ bootstrap: { token: 'abc.def' } });
  expect(options(PARENT, '--parent-ca-file=a', '--direct-url=https://hub:10250').direct).toMatchObject({
    caFile: 'a',
    url: 'https://hub:10250',
  });
  expect(options(PARENT, '--parent-ca-file=a', '--direct-url=https://hub', '--direct-ca-file=b').direct).toMatchObject({ caFile: 'b' });
});

test('targets and labels are parsed, repeated and joined', () => {
  const parsed = options(
    PARENT,
    '--allow-target=10.0.0.0/8:443',
    '--allow-target=*.svc',
    '--cluster-label=a=1',
    '--cluster-label=b.example/c=',
  );
  expect(parsed.allowTargets.map(({ text }) => text)).toEqual(['10.0.0.0/8:443', '*.svc']);
  expect(parsed.cluster.labels).toEqual({ a: '1', 'b.example/c': '' });
});

test.each([
  [[], '--parent-url is needed'],
  [['--parent-url=http://p'], 'nothing is sent without TLS'],
  [['--parent-url=https://user:secret@p'], 'no user'],
  [[PARENT, '--parent-ca-file=a', '--parent-ca-data=b'], 'exclude each other'],
  [[PARENT, '--parent-ca-data=aGVsbG8='], 'base64 of PEM'],
  [[PARENT, '--parent-protocol=ssh'], 'fairlead or remotedialer'],
  [[PARENT, '--tunnels=0'], 'from 1 to 8'],
  [[PARENT, '--cluster-label=x'], 'KEY=VALUE'],
  [[PARENT, '--cluster-label=a=b c'], 'KEY=VALUE'],
  [[PARENT, '--cluster-name=Not Good'], 'lower case'],
  [[PARENT, '--cluster-reg-name=Not Good'], '--cluster-reg-name'],
  [[PARENT, '--cluster-sync-mode=All'], 'Push, Pull or Dual'],
  [[PARENT, '--allow-target=http://x'], '--allow-target'],
  [[PARENT, '--heartbeat=1ms'], 'from 1s'],
  [[PARENT, '--health-bind-address=here'], 'IP address'],
  [[PARENT, '--health-port=70000'], '65535'],
  [[PARENT, '--bare', '--state-dir='], '--state-dir'],
  [[PARENT, '--insecure-skip-tls-verify'], 'unknown flag'],
])('%j is refused and says why', (args, text) => {
  expect(refusal(...args)).toContain(text);
});

test('a URL with a password is not repeated in the refusal', () => {
  expect(refusal('--parent-url=https://user:secret@p')).not.toContain('secret');
});

test('no flag turns the verification of certificates off', () => {
  expect(FLAGS.map(({ name }) => name).filter((name) => /insecure|skip/.test(name))).toEqual([]);
});

test('an agent of a bare machine keeps the life of its cluster, unless it shall not', () => {
  expect(options(PARENT, '--bare').lifecycle).toEqual({
    socket: '/run/fairlead-agent/agent.sock',
    artifacts: '',
    downloadURL: '',
    caFile: '',
    k3sInstallerURL: '',
    k3sReleasesURL: '',
    renewBeforeMs: 720 * 3_600_000,
    followKubelet: false,
    statusIntervalMs: 10_000,
  });
  expect(options(PARENT).lifecycle).toBeUndefined();
  expect(options(PARENT, '--bare', '--lifecycle=false').lifecycle).toBeUndefined();
  expect(
    options(
      PARENT,
      '--bare',
      '--socket=',
      '--artifacts=/srv/kubernetes',
      '--download-url=https://mirror.example/release/',
      '--k3s-installer-url=https://mirror.example/k3s.sh',
      '--k3s-releases-url=https://mirror.example/k3s',
      '--target-ca-file=/etc/mirror-ca.crt',
      '--certificate-renew-before=24h',
      '--follow-kubelet',
      '--status-interval=1m',
    ).lifecycle,
  ).toEqual({
    socket: '',
    artifacts: '/srv/kubernetes',
    downloadURL: 'https://mirror.example/release',
    caFile: '/etc/mirror-ca.crt',
    k3sInstallerURL: 'https://mirror.example/k3s.sh',
    k3sReleasesURL: 'https://mirror.example/k3s',
    renewBeforeMs: 86_400_000,
    followKubelet: true,
    statusIntervalMs: 60_000,
  });
});

test.each([
  ['--lifecycle'],
  ['--bare', '--artifacts=http://x'],
  ['--bare', '--artifacts=srv'],
  ['--bare', '--artifacts=https://u:p@x/'],
  ['--bare', '--socket=agent.sock'],
  ['--bare', '--download-url=http://x'],
  ['--bare', '--certificate-renew-before=1s'],
  ['--bare', '--status-interval=1ms'],
])('options of the lifecycle that cannot work are refused: %s %s', (...args) => {
  const message = refusal(PARENT, ...args);
  expect(message).not.toBe('nothing was wrong');
  expect(message).toContain((args.at(-1) ?? '').split('=')[0]);
});
