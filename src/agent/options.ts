import { randomUUID } from 'node:crypto';
import { isIP } from 'node:net';
import { hostname } from 'node:os';
import type { SyncMode } from '../kube/clusternet.ts';
import { FlagError, parseDuration, parseFlags } from '../kube/flags.ts';
import { ALIASES, FLAGS } from './flags.ts';
import type { ParentOptions } from './parent/parent.ts';
import type { ClusterDescription } from './registration/request.ts';
import { parseTargetPattern, type TargetPattern } from './upstream/settings.ts';

/** What the agent was started with, checked. */
export type Options = {
  parent: ParentOptions;
  /** The hub's own address; undefined: through the parent's kube-apiserver. */
  direct: ParentOptions | undefined;
  protocol: 'fairlead' | 'remotedialer';
  tunnels: number;
  /** File to read the bootstrap token from, or else the token. */
  bootstrap: { file: string; token: string };
  kubeconfig: string;
  bare: boolean;
  stateDir: string;
  /** Undefined: the agent does not make clusters. */
  lifecycle: LifecycleOptions | undefined;
  /** Namespace in the child. */
  namespace: string;
  cluster: ClusterDescription;
  clusterCIDR: string;
  serviceCIDR: string;
  allowTargets: TargetPattern[];
  targetCAFile: string;
  allowIdentities: string[];
  health: { address: string; port: number };
  heartbeatMs: number;
  shutdownTimeoutMs: number;
  /** Name of this replica, unique among those that run. */
  identity: string;
  verbosity: number;
  /** What the person should know, for the log. */
  warnings: string[];
};

/** How the agent keeps the life of the cluster on its machine. */
export type LifecycleOptions = {
  /** Path of the Unix socket; '' for none. */
  socket: string;
  /** A folder, an https URL, or '' for the projects' hosts. */
  artifacts: string;
  /** Base of Kubernetes' downloads; '' for the project's. */
  downloadURL: string;
  /** PEM file with CAs that the source of artifacts is verified by, besides those of the system; '' for none. */
  caFile: string;
  /** '' for the project's. */
  k3sInstallerURL: string;
  k3sReleasesURL: string;
  renewBeforeMs: number;
  followKubelet: boolean;
  statusIntervalMs: number;
};

const LONGEST_TIMER_MS = 2 ** 31 - 1;
const LABEL_KEY = /^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const LABEL_VALUE = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;
const DNS_LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const SYNC_MODES: readonly string[] = ['Push', 'Pull', 'Dual'] satisfies SyncMode[];

/** What the command line asks for. Throws FlagError with a message for the person at the shell. */
export function parseOptions(
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): Options | { print: 'help' | 'version' } {
  const values = parseFlags(FLAGS, args);
  const given = (name: string) => (values.get(name) ?? []).filter((value) => value !== '');
  /** The alias counts when it was given; the name that was used is the one for messages. */
  const used = (name: string) => [...ALIASES].find(([alias, ours]) => ours === name && given(alias).length > 0)?.[0] ?? name;
  const text = (name: string) => values.get(used(name))?.at(-1) ?? '';
  const bool = (name: string) => text(name) === 'true';
  const wrong = (name: string, why: string, value = text(name)) =>
    new FlagError(`invalid argument ${JSON.stringify(value)} for --${used(name)}: ${why}`);

  if (bool('help') || bool('h')) return { print: 'help' };
  if (bool('version')) return { print: 'version' };

  const url = (name: string): string => {
    const value = text(name);
    const parsed = URL.canParse(value) ? new URL(value) : undefined;
    if (parsed?.protocol !== 'https:') throw wrong(name, 'must be https://HOST[:PORT]; nothing is sent without TLS');
    if (parsed.username || parsed.password || parsed.search || parsed.hash)
      throw wrong(name, 'must have no user, query or fragment', 'https://...');
    return value.replace(/\/+$/, '');
  };
  const timed = (name: string, least: number): number => {
    const value = parseDuration(text(name)) ?? 0;
    if (value < least || value > LONGEST_TIMER_MS) throw wrong(name, `must be from ${least / 1_000}s to 596h`);
    return value;
  };
  const within = (name: string, low: number, high: number): number => {
    const value = Number(text(name));
    if (value < low || value > high) throw wrong(name, `must be from ${low} to ${high}`);
    return value;
  };
  const matching = (name: string, pattern: RegExp, what: string): string => {
    if (text(name) !== '' && !pattern.test(text(name))) throw wrong(name, `must be ${what}`);
    return text(name);
  };

  function lifecycleOptions(): LifecycleOptions {
    const artifacts = text('artifacts');
    if (artifacts !== '' && !artifacts.startsWith('/') && !artifacts.startsWith('https://')) {
      throw wrong('artifacts', 'must be an absolute path or https://HOST/PATH');
    }
    if (text('socket') !== '' && !text('socket').startsWith('/')) throw wrong('socket', 'must be an absolute path');
    const renewBeforeMs = parseDuration(text('certificate-renew-before')) ?? 0;
    if (renewBeforeMs < 60_000) throw wrong('certificate-renew-before', 'must be at least 1m');
    return {
      socket: text('socket'),
      artifacts: artifacts.startsWith('https://') ? url('artifacts') : artifacts,
      downloadURL: text('download-url') === '' ? '' : url('download-url'),
      caFile: text('target-ca-file'),
      k3sInstallerURL: text('k3s-installer-url') === '' ? '' : url('k3s-installer-url'),
      k3sReleasesURL: text('k3s-releases-url') === '' ? '' : url('k3s-releases-url'),
      renewBeforeMs,
      followKubelet: bool('follow-kubelet'),
      statusIntervalMs: timed('status-interval', 1_000),
    };
  }

  if (text('parent-url') === '') throw new FlagError("--parent-url is needed: the address of the parent's kube-apiserver");
  if (text('parent-ca-file') && text('parent-ca-data')) throw new FlagError('--parent-ca-file and --parent-ca-data exclude each other');
  const caData = Buffer.from(text('parent-ca-data'), 'base64').toString('utf8');
  if (text('parent-ca-data') && !caData.includes('-----BEGIN CERTIFICATE-----')) {
    throw wrong('parent-ca-data', 'must be base64 of PEM certificates', '...');
  }
  const protocol = text('parent-protocol');
  if (protocol !== 'fairlead' && protocol !== 'remotedialer') throw wrong('parent-protocol', 'must be fairlead or remotedialer');
  const syncMode = text('cluster-sync-mode');
  if (!SYNC_MODES.includes(syncMode)) throw wrong('cluster-sync-mode', 'must be Push, Pull or Dual');
  if (isIP(text('health-bind-address')) === 0) throw wrong('health-bind-address', 'must be an IP address');
  if (bool('bare') && text('state-dir') === '') throw new FlagError('--bare needs --state-dir: the credentials have no other place');
  const keepsCluster = text('lifecycle') === '' ? bool('bare') : bool('lifecycle');
  if (keepsCluster && !bool('bare')) throw new FlagError('--lifecycle needs --bare: an agent in a cluster does not make one');
  const lifecycle = keepsCluster ? lifecycleOptions() : undefined;
  const parent: ParentOptions = {
    url: url('parent-url'),
    caFile: text('parent-ca-file'),
    ca: caData,
    serverName: text('parent-server-name'),
  };
  const direct: ParentOptions | undefined = text('direct-url')
    ? {
        url: url('direct-url'),
        caFile: text('direct-ca-file') || parent.caFile,
        ca: text('direct-ca-file') ? '' : parent.ca,
        serverName: text('direct-server-name'),
      }
    : undefined;
  const token = text('cluster-reg-token') || environment['FAIRLEAD_BOOTSTRAP_TOKEN'] || '';
  const warnings = text('cluster-reg-token')
    ? ['--cluster-reg-token shows the token to everybody on this machine: use --bootstrap-token-file or the environment']
    : [];

  return {
    parent,
    direct,
    protocol,
    tunnels: within('tunnels', 1, 8),
    bootstrap: { file: text('bootstrap-token-file'), token: token.trim() },
    kubeconfig: text('kubeconfig'),
    bare: bool('bare'),
    stateDir: text('state-dir'),
    lifecycle,
    namespace: matching('namespace', DNS_LABEL, 'the name of a namespace'),
    cluster: {
      name: matching('cluster-name', /^[a-z0-9]([-a-z0-9.]{0,58}[a-z0-9])?$/, 'at most 60 lower case letters, digits, - and .'),
      namespace: matching('cluster-namespace', DNS_LABEL, 'the name of a namespace'),
      type: matching('cluster-type', LABEL_VALUE, 'a word'),
      labels: labels(given('cluster-label'), given('cluster-labels')),
      syncMode: syncMode as SyncMode,
    },
    clusterCIDR: text('cluster-cidr'),
    serviceCIDR: text('service-cidr'),
    allowTargets: given('allow-target').map((pattern) => {
      try {
        return parseTargetPattern(pattern);
      } catch (error) {
        throw wrong('allow-target', error instanceof Error ? error.message : String(error), pattern);
      }
    }),
    targetCAFile: text('target-ca-file'),
    allowIdentities: given('allow-identity'),
    health: { address: text('health-bind-address'), port: within('health-port', 0, 65_535) },
    heartbeatMs: timed('heartbeat', 1_000),
    shutdownTimeoutMs: timed('shutdown-timeout', 0),
    identity: text('identity') || `${hostname()}_${randomUUID()}`,
    verbosity: Number(text('v')),
    warnings,
  };
}

function labels(single: readonly string[], joined: readonly string[]): Record<string, string> {
  const found: Record<string, string> = {};
  for (const pair of [...joined.flatMap((all) => all.split(',')), ...single]) {
    const at = pair.indexOf('=');
    const [key, value] = [pair.slice(0, at).trim(), pair.slice(at + 1).trim()];
    if (at < 1 || !LABEL_KEY.test(key) || !LABEL_VALUE.test(value)) {
      throw new FlagError(
        `invalid argument ${JSON.stringify(pair)} for --cluster-label: must be KEY=VALUE by the rules of Kubernetes' labels`,
      );
    }
    found[key] = value;
  }
  return found;
}
