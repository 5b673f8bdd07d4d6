import { randomUUID } from 'node:crypto';
import { isIP } from 'node:net';
import { hostname } from 'node:os';
import { podNamespace } from '../kube/config.ts';
import { type Flag, FlagError, parseDuration, parseFlags } from '../kube/flags.ts';
import type { InFlightLimits } from './http/in-flight.ts';
import { type NodeBudget, parseNodeBudget } from './nodes/guards/max-nodes-down.ts';
import type { NodeSettings } from './nodes/settings.ts';
import type { SocketLimits } from './sockets/limits.ts';

/** What the hub was started with, checked. */
export type Options = {
  kubeconfig: string;
  bindAddress: string;
  securePort: number;
  certificate: { files: { cert: string; key: string } } | { selfMade: { secret: string; validityMs: number; extraNames: string[] } };
  serviceName: string;
  apiServices: string[];
  identity: string;
  nodeName: string;
  leaderElection: { enabled: boolean; leaseName: string; leaseDurationMs: number; renewDeadlineMs: number; retryPeriodMs: number };
  cloudConfig: string;
  cloudTimeoutMs: number;
  nodes: NodeSettings;
  limits: InFlightLimits;
  clusters: {
    peerPort: number;
    peerSecret: string;
    directPort: number;
    directURL: string;
    approveGroups: string[];
    tokenSeconds: number;
    unknownAfterMs: number;
    attachesPerSecond: number;
    limits: SocketLimits;
  };
  requestTimeoutMs: number;
  audit: { path: string; keyFile: string };
  shutdownDelayMs: number;
  shutdownTimeoutMs: number;
  verbosity: number;
};

/** Node's timers count milliseconds in 31 bits. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export const FLAGS: readonly Flag[] = [
  {
    name: 'kubeconfig',
    type: 'string',
    default: '',
    help: 'Path of a kubeconfig for the cluster that this hub extends. Empty: the ServiceAccount of the pod.',
  },
  {
    name: 'namespace',
    type: 'string',
    default: '',
    help: 'Namespace for the ConfigMaps, Leases and Secret of the hub. Empty: that of the pod, else fairlead-system.',
  },
  { name: 'bind-address', type: 'string', default: '0.0.0.0', help: 'IP address to listen on.' },
  { name: 'secure-port', type: 'int', default: '10250', help: 'Port to serve HTTPS on.' },
  {
    name: 'tls-cert-file',
    type: 'string',
    default: '',
    help: 'Serving certificate (PEM, with intermediates). Read again when it changes. Empty: the hub makes and rotates its own.',
  },
  { name: 'tls-private-key-file', type: 'string', default: '', help: 'Private key of --tls-cert-file.' },
  {
    name: 'service-name',
    type: 'string',
    default: 'fairlead-hub',
    help: 'Service in front of the hub; the names of a certificate that the hub makes follow from it.',
  },
  {
    name: 'api-service',
    type: 'string',
    default: '',
    repeated: true,
    help: 'APIService whose caBundle is kept up to date with a certificate that the hub makes. May be repeated. None: v1.infraops.michael.io and v1alpha1.proxies.clusternet.io.',
  },
  { name: 'cert-secret-name', type: 'string', default: 'fairlead-hub-tls', help: 'Secret for a certificate that the hub makes.' },
  {
    name: 'cert-validity',
    type: 'duration',
    default: '2160h',
    help: 'Life of a certificate that the hub makes; it is replaced after two thirds.',
  },
  {
    name: 'cert-extra-name',
    type: 'string',
    default: '',
    repeated: true,
    help: 'Further DNS name or IP address for a certificate that the hub makes. May be repeated.',
  },
  { name: 'identity', type: 'string', default: '', help: 'Name of this replica, unique among all. Empty: host name and a random part.' },
  {
    name: 'node-name',
    type: 'string',
    default: '',
    help: 'Node that this replica runs on. Empty: environment variable NODE_NAME, then MY_NODE_NAME.',
  },
  {
    name: 'leader-elect',
    type: 'bool',
    default: 'true',
    help: 'Elect the replica that runs operations by a Lease. Without it this replica always does: run only one.',
  },
  { name: 'leader-elect-resource-name', type: 'string', default: 'fairlead-hub', help: 'Name of that Lease.' },
  {
    name: 'leader-elect-lease-duration',
    type: 'duration',
    default: '15s',
    help: 'After so long without renewal another replica takes over.',
  },
  {
    name: 'leader-elect-renew-deadline',
    type: 'duration',
    default: '10s',
    help: 'After so long without renewal the leader stops by itself.',
  },
  { name: 'leader-elect-retry-period', type: 'duration', default: '2s', help: 'Pause between attempts to acquire or renew.' },
  {
    name: 'cloud-config',
    type: 'string',
    default: '',
    help: "File with accounts of clouds (YAML). Empty: one account a cloud, from the cloud's own environment variables and files.",
  },
  { name: 'cloud-timeout', type: 'duration', default: '10s', help: 'Limit for one call of a cloud, unless the account says otherwise.' },
  {
    name: 'max-nodes-down',
    type: 'string',
    default: '10%',
    help: 'Guard: at most so many nodes may be down at once, as a number or a percentage (at least one). Nodes that are not Ready count.',
  },
  { name: 'max-nodes-down-per-zone', type: 'string', default: '10%', help: 'Guard: the same for each zone.' },
  { name: 'restart-cooldown', type: 'duration', default: '5m', help: 'Guard: pause between two restarts of one node. 0 turns it off.' },
  { name: 'max-operations', type: 'int', default: '100', help: 'Node operations that may run at once; more are answered with 429.' },
  { name: 'operation-timeout', type: 'duration', default: '15m', help: 'Default for timeoutSeconds of an operation.' },
  { name: 'drain-timeout', type: 'duration', default: '5m', help: 'Default for drainTimeoutSeconds of an operation.' },
  {
    name: 'unanswered-call-wait',
    type: 'duration',
    default: '5m',
    help: 'How long to look for signs that a cloud call whose answer was lost has taken effect, before it is repeated. Longer than a machine needs to shut down.',
  },
  { name: 'history-ttl', type: 'duration', default: '168h', help: 'Ended operations are deleted after so long.' },
  { name: 'history-limit', type: 'int', default: '1000', help: 'Ended operations are deleted, oldest first, when there are more.' },
  {
    name: 'medik8s-leases',
    type: 'bool',
    default: 'true',
    help: 'Honour and take the Leases of namespace medik8s-leases where it exists and the hub may.',
  },
  {
    name: 'peer-port',
    type: 'int',
    default: '10251',
    help: 'Port where the replicas of the hub reach each other, with certificates of their own. 0: no replica but this one.',
  },
  { name: 'peer-secret-name', type: 'string', default: 'fairlead-hub-peers', help: 'Secret for the authority of those certificates.' },
  {
    name: 'direct-port',
    type: 'int',
    default: '0',
    help: "Port for users and agents that come to the hub itself, past kube-apiserver, with client certificates of the cluster's CA or bearer tokens. 0: none.",
  },
  {
    name: 'direct-url',
    type: 'string',
    default: '',
    help: 'https://HOST[:PORT] under which that port is reached from outside; shown in clusters.infraops.michael.io for kubectl infra kubeconfig --direct.',
  },
  {
    name: 'approve-group',
    type: 'string',
    default: '',
    repeated: true,
    help: 'Clusters whose registration comes from a member of this group are approved without a person. May be repeated; `none`: always by hand. None given: system:bootstrappers:clusternet:register-cluster-token.',
  },
  {
    name: 'agent-token-ttl',
    type: 'duration',
    default: '24h',
    help: "Life of an agent's token; the agent renews it after two thirds. An agent that was cut off for longer needs a bootstrap token again. At least 10m.",
  },
  {
    name: 'cluster-unknown-after',
    type: 'duration',
    default: '15s',
    help: 'A cluster whose tunnel ended becomes Ready=Unknown after so long.',
  },
  { name: 'max-attaches-per-second', type: 'int', default: '200', help: 'Tunnels that agents may open in a second; the others try again.' },
  { name: 'max-proxied-per-user', type: 'int', default: '500', help: 'Requests of one user that may be open in tunnels at once.' },
  { name: 'max-proxied-per-cluster', type: 'int', default: '2000', help: 'Requests to one cluster that may be open in tunnels at once.' },
  {
    name: 'max-requests-inflight',
    type: 'int',
    default: '400',
    help: 'Requests that are answered at once, without watches; more get 429.',
  },
  { name: 'max-streams-inflight', type: 'int', default: '2000', help: 'Watches and followed logs at once.' },
  { name: 'max-streams-per-user', type: 'int', default: '200', help: 'Watches and followed logs of one user at once.' },
  { name: 'request-timeout', type: 'duration', default: '60s', help: 'Limit for a request without a stream.' },
  { name: 'audit-log-path', type: 'string', default: '-', help: 'File for the audit log, one JSON line a request; - is standard output.' },
  {
    name: 'audit-log-key-file',
    type: 'string',
    default: '',
    help: 'File with a key for the chain of the audit log. Empty: the chain has no key.',
  },
  {
    name: 'shutdown-delay',
    type: 'duration',
    default: '5s',
    help: 'After SIGTERM: not ready, but serving, for so long, until nobody sends requests here any more.',
  },
  { name: 'shutdown-timeout', type: 'duration', default: '20s', help: 'After that: how long requests in flight may take to end.' },
  { name: 'v', type: 'int', default: '0', help: 'Verbosity of the log: 0 what matters, 2 each request, 4 everything.' },
  { name: 'version', type: 'bool', default: 'false', help: 'Print the version and exit.' },
  { name: 'help', type: 'bool', default: 'false', help: 'Print this text and exit.' },
  { name: 'h', type: 'bool', default: 'false', help: 'The same.' },
];

/** The APIServices of deploy/hub. */
const API_SERVICES = ['v1.infraops.michael.io', 'v1alpha1.proxies.clusternet.io'];

function approveGroups(given: string[]): string[] {
  if (given.length === 0) return ['system:bootstrappers:clusternet:register-cluster-token'];
  return given.filter((group) => group !== 'none');
}

/** What the command line asks for. Throws FlagError with a message for the person at the shell. */
export function parseOptions(
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): Options | { print: 'help' | 'version' } {
  const values = parseFlags(FLAGS, args);
  const all = (name: string) => (values.get(name) ?? []).filter((value) => value !== '');
  const text = (name: string) => values.get(name)?.at(-1) ?? '';
  const bool = (name: string) => text(name) === 'true';
  const int = (name: string) => Number(text(name));
  const duration = (name: string) => parseDuration(text(name)) ?? 0;
  const wrong = (name: string, why: string) => new FlagError(`invalid argument ${JSON.stringify(text(name))} for --${name}: ${why}`);

  if (bool('help') || bool('h')) return { print: 'help' };
  if (bool('version')) return { print: 'version' };

  const budget = (name: string): NodeBudget => {
    try {
      return parseNodeBudget(text(name));
    } catch (error) {
      throw wrong(name, error instanceof Error ? error.message : String(error));
    }
  };
  const positive = (name: string): number => {
    const value = duration(name);
    if (value <= 0) throw wrong(name, 'must be longer than 0');
    return value;
  };
  /** For what a timer waits for: a longer one would end at once. */
  const timed = (name: string, value = positive(name)): number => {
    if (value > LONGEST_TIMER_MS) throw wrong(name, 'must be at most 596h');
    return value;
  };
  const atLeastOne = (name: string): number => {
    if (int(name) < 1) throw wrong(name, 'must be at least 1');
    return int(name);
  };
  const dnsName = (name: string, value: string): string => {
    if (!/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(value)) throw wrong(name, 'must be a DNS name in lower case');
    return value;
  };

  const port = (name: string): number => {
    if (int(name) > 65_535) throw wrong(name, 'must be a port up to 65535');
    return int(name);
  };
  const directURL = (): string => {
    const url = text('direct-url');
    if (url === '') return '';
    if (int('direct-port') === 0) throw wrong('direct-url', 'needs --direct-port');
    if (!/^https:\/\/[^/?#@\s]+$/.test(url) || !URL.canParse(url)) throw wrong('direct-url', 'must be https://HOST[:PORT]');
    return url;
  };
  const tokenSeconds = (): number => {
    const seconds = Math.floor(duration('agent-token-ttl') / 1_000);
    if (seconds < 600) throw wrong('agent-token-ttl', 'must be at least 10m, the least that kube-apiserver gives');
    return seconds;
  };

  if (isIP(text('bind-address')) === 0) throw wrong('bind-address', 'must be an IP address');
  if (int('secure-port') > 65_535) throw wrong('secure-port', 'must be a port from 1 to 65535, or 0 for a free one');
  const cert = text('tls-cert-file');
  const key = text('tls-private-key-file');
  if ((cert === '') !== (key === '')) throw new FlagError('--tls-cert-file and --tls-private-key-file belong together: give both or none');
  const leaseDurationMs = timed('leader-elect-lease-duration');
  const renewDeadlineMs = timed('leader-elect-renew-deadline');
  const retryPeriodMs = timed('leader-elect-retry-period');
  if (renewDeadlineMs >= leaseDurationMs) throw wrong('leader-elect-renew-deadline', 'must be shorter than --leader-elect-lease-duration');
  if (retryPeriodMs >= renewDeadlineMs) throw wrong('leader-elect-retry-period', 'must be shorter than --leader-elect-renew-deadline');
  const namespace = dnsName('namespace', text('namespace') || podNamespace() || 'fairlead-system');

  return {
    kubeconfig: text('kubeconfig'),
    bindAddress: text('bind-address'),
    securePort: int('secure-port'),
    certificate: cert
      ? { files: { cert, key } }
      : {
          selfMade: {
            secret: dnsName('cert-secret-name', text('cert-secret-name')),
            validityMs: positive('cert-validity'),
            extraNames: all('cert-extra-name'),
          },
        },
    serviceName: dnsName('service-name', text('service-name')),
    apiServices: values.get('api-service')?.length ? all('api-service') : API_SERVICES,
    identity: text('identity') || `${hostname()}_${randomUUID()}`,
    nodeName: text('node-name') || environment['NODE_NAME'] || environment['MY_NODE_NAME'] || '',
    leaderElection: {
      enabled: bool('leader-elect'),
      leaseName: dnsName('leader-elect-resource-name', text('leader-elect-resource-name')),
      leaseDurationMs,
      renewDeadlineMs,
      retryPeriodMs,
    },
    cloudConfig: text('cloud-config'),
    cloudTimeoutMs: timed('cloud-timeout'),
    nodes: {
      namespace,
      maxNodesDown: budget('max-nodes-down'),
      maxNodesDownPerZone: budget('max-nodes-down-per-zone'),
      cooldownMs: duration('restart-cooldown'),
      maxOperations: atLeastOne('max-operations'),
      operationTimeoutMs: timed('operation-timeout'),
      drainTimeoutMs: timed('drain-timeout'),
      evidenceMs: timed('unanswered-call-wait'),
      historyTTLMs: positive('history-ttl'),
      historyLimit: int('history-limit'),
      medik8sLeases: bool('medik8s-leases'),
    },
    limits: {
      requests: atLeastOne('max-requests-inflight'),
      streams: atLeastOne('max-streams-inflight'),
      streamsPerUser: atLeastOne('max-streams-per-user'),
    },
    clusters: {
      peerPort: port('peer-port'),
      peerSecret: dnsName('peer-secret-name', text('peer-secret-name')),
      directPort: port('direct-port'),
      directURL: directURL(),
      approveGroups: approveGroups(all('approve-group')),
      tokenSeconds: tokenSeconds(),
      unknownAfterMs: timed('cluster-unknown-after'),
      attachesPerSecond: atLeastOne('max-attaches-per-second'),
      limits: { perUser: atLeastOne('max-proxied-per-user'), perCluster: atLeastOne('max-proxied-per-cluster') },
    },
    requestTimeoutMs: timed('request-timeout'),
    audit: { path: text('audit-log-path'), keyFile: text('audit-log-key-file') },
    shutdownDelayMs: timed('shutdown-delay', duration('shutdown-delay')),
    shutdownTimeoutMs: timed('shutdown-timeout', duration('shutdown-timeout')),
    verbosity: int('v'),
  };
}
