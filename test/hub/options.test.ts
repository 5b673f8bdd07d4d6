import { expect, test } from 'vitest';
import { FLAGS } from '../../src/hub/hub-flags.ts';
import { type Options, parseOptions } from '../../src/hub/options.ts';
import { FlagError } from '../../src/kube/flags.ts';

function options(...args: string[]): Options {
  const parsed = parseOptions(args, {});
  if ('print' in parsed) throw new Error(`prints ${parsed.print}`);
  return parsed;
}

test('without flags: the defaults of the documentation', () => {
  expect(options()).toMatchObject({
    kubeconfig: '',
    bindAddress: '0.0.0.0',
    securePort: 10250,
    certificate: { selfMade: { secret: 'fairlead-hub-tls', validityMs: 90 * 86_400_000, extraNames: [] } },
    apiServices: ['v1.infraops.michael.io', 'v1alpha1.proxies.clusternet.io'],
    leaderElection: { enabled: true, leaseDurationMs: 15_000, renewDeadlineMs: 10_000, retryPeriodMs: 2_000 },
    nodes: {
      namespace: 'fairlead-system',
      maxNodesDown: { percent: 10 },
      maxNodesDownPerZone: { percent: 10 },
      cooldownMs: 300_000,
      maxOperations: 100,
      medik8sLeases: true,
    },
    limits: { requests: 400, streams: 2_000, streamsPerUser: 200 },
    clusters: {
      peerPort: 10_251,
      peerSecret: 'fairlead-hub-peers',
      directPort: 0,
      directURL: '',
      approveGroups: ['system:bootstrappers:clusternet:register-cluster-token'],
      tokenSeconds: 86_400,
      unknownAfterMs: 15_000,
      attachesPerSecond: 200,
      limits: { perUser: 500, perCluster: 2_000 },
    },
    audit: { path: '-', keyFile: '' },
    verbosity: 0,
  });
});

test('identities are unique; the node name comes from the flag, then from the environment', () => {
  expect(options().identity).not.toBe(options().identity);
  expect(options('--identity=me').identity).toBe('me');
  const named = (args: string[], environment: Record<string, string>) => {
    const parsed = parseOptions(args, environment);
    return 'print' in parsed ? '' : parsed.nodeName;
  };
  expect(named([], { MY_NODE_NAME: 'b' })).toBe('b');
  expect(named([], { NODE_NAME: 'a', MY_NODE_NAME: 'b' })).toBe('a');
  expect(named(['--node-name=c'], { NODE_NAME: 'a' })).toBe('c');
});

test('flags of child clusters: what makes no sense is refused with the reason', () => {
  expect(options('--approve-group=none').clusters.approveGroups).toEqual([]);
  expect(options('--approve-group=a', '--approve-group=b').clusters.approveGroups).toEqual(['a', 'b']);
  expect(options('--direct-port=10252', '--direct-url=https://hub.example:443').clusters).toMatchObject({
    directPort: 10_252,
    directURL: 'https://hub.example:443',
  });
  expect(() => options('--direct-url=https://hub.example')).toThrow('needs --direct-port');
  expect(() => options('--direct-port=1', '--direct-url=http://hub.example')).toThrow('must be https://HOST[:PORT]');
  expect(() => options('--agent-token-ttl=5m')).toThrow('at least 10m');
  expect(() => options('--peer-port=70000')).toThrow('up to 65535');
});

test('what is given is taken', () => {
  expect(options('--tls-cert-file=c', '--tls-private-key-file=k').certificate).toEqual({ files: { cert: 'c', key: 'k' } });
  expect(options('--api-service=a', '--api-service=b').apiServices).toEqual(['a', 'b']);
  expect(options('--api-service=').apiServices).toEqual([]);
  expect(options('--bind-address=::1', '--secure-port=0', '--restart-cooldown=0', '-v=4')).toMatchObject({
    bindAddress: '::1',
    securePort: 0,
    nodes: { cooldownMs: 0 },
    verbosity: 4,
  });
  expect(options('--max-nodes-down=3', '--max-nodes-down-per-zone=50%').nodes).toMatchObject({
    maxNodesDown: { count: 3 },
    maxNodesDownPerZone: { percent: 50 },
  });
});

test('--help and --version come before anything wrong', () => {
  for (const flag of ['--help', '-h', '--h']) expect(parseOptions([flag, '--secure-port=99999'], {})).toEqual({ print: 'help' });
  expect(parseOptions(['--version', '--namespace=A'], {})).toEqual({ print: 'version' });
});

test.each([
  ['--bind-address=localhost', 'must be an IP address'],
  ['--secure-port=65536', 'must be a port from 1 to 65535, or 0 for a free one'],
  ['--tls-cert-file=c', '--tls-cert-file and --tls-private-key-file belong together: give both or none'],
  ['--tls-private-key-file=k', '--tls-cert-file and --tls-private-key-file belong together: give both or none'],
  ['--leader-elect-renew-deadline=15s', 'must be shorter than --leader-elect-lease-duration'],
  ['--leader-elect-retry-period=10s', 'must be shorter than --leader-elect-renew-deadline'],
  ['--leader-elect-lease-duration=0', 'must be longer than 0'],
  ['--namespace=Fairlead', 'must be a DNS name in lower case'],
  ['--namespace=../kube-system', 'must be a DNS name in lower case'],
  ['--service-name=a_b', 'must be a DNS name in lower case'],
  ['--cert-secret-name=', 'must be a DNS name in lower case'],
  ['--leader-elect-resource-name=-a', 'must be a DNS name in lower case'],
  ['--max-nodes-down=0', 'must be a number of nodes from 1 on, or a percentage from 1% to 100%, not "0"'],
  ['--max-nodes-down-per-zone=200%', 'must be a number of nodes from 1 on, or a percentage from 1% to 100%, not "200%"'],
  ['--max-operations=0', 'must be at least 1'],
  ['--max-requests-inflight=0', 'must be at least 1'],
  ['--max-streams-inflight=0', 'must be at least 1'],
  ['--max-streams-per-user=0', 'must be at least 1'],
  ['--operation-timeout=0', 'must be longer than 0'],
  ['--drain-timeout=0s', 'must be longer than 0'],
  ['--unanswered-call-wait=0', 'must be longer than 0'],
  ['--history-ttl=0', 'must be longer than 0'],
  ['--cert-validity=0', 'must be longer than 0'],
  ['--cloud-timeout=0', 'must be longer than 0'],
  ['--request-timeout=0', 'must be longer than 0'],
])('%s is refused, with the flag and the reason', (arg, reason) => {
  const attempt = () => options(arg);
  expect(attempt).toThrow(FlagError);
  expect(attempt).toThrow(reason);
  expect(attempt).toThrow(arg.split('=')[0]);
});

test.each([
  'operation-timeout',
  'drain-timeout',
  'unanswered-call-wait',
  'request-timeout',
  'cloud-timeout',
  'shutdown-delay',
  'shutdown-timeout',
])('regression: --%s longer than a timer can wait ended everything at once', (name) => {
  expect(() => options(`--${name}=597h`)).toThrow(`invalid argument "597h" for --${name}: must be at most 596h`);
  expect(() => options(`--${name}=596h`)).not.toThrow();
});

test('every flag of every type refuses a value that is not of its type', () => {
  for (const flag of FLAGS.filter(({ type }) => type !== 'string'))
    expect(() => options(flag.name.length === 1 ? `-${flag.name}=wrong` : `--${flag.name}=wrong`)).toThrow('invalid argument "wrong"');
});
