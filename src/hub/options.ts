import { randomUUID } from 'node:crypto';
import { isIP } from 'node:net';
import { hostname } from 'node:os';
import { podNamespace } from '../kube/config.ts';
import { FlagError, parseDuration, parseFlags } from '../kube/flags.ts';
import type { InFlightLimits } from './http/in-flight.ts';
import { FLAGS } from './hub-flags.ts';
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
