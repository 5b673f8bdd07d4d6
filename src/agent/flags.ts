import type { Flag } from '../kube/flags.ts';

const text = (name: string, help: string, preset = ''): Flag => ({ name, type: 'string', default: preset, help });
const list = (name: string, help: string): Flag => ({ name, type: 'string', default: '', repeated: true, help });
const bool = (name: string, help: string): Flag => ({ name, type: 'bool', default: 'false', help });

/** Flags of clusternet's agent, and ours that mean the same. */
export const ALIASES: ReadonlyMap<string, string> = new Map([
  ['cluster-reg-parent-url', 'parent-url'],
  ['cluster-reg-name', 'cluster-name'],
  ['cluster-reg-type', 'cluster-type'],
  ['cluster-reg-namespace', 'cluster-namespace'],
  ['cluster-status-update-frequency', 'heartbeat'],
]);

const OURS: readonly Flag[] = [
  text('parent-url', "Address of the parent's kube-apiserver, https://HOST[:PORT]."),
  text('parent-ca-file', 'CA certificates (PEM) that the parent must be signed by. Empty: those the system trusts.'),
  text('parent-ca-data', 'The same as base64, in place of a file.'),
  text('parent-server-name', "Name that the parent's certificate must have. Empty: the host of --parent-url."),
  text(
    'bootstrap-token-file',
    'File with the token to register with, read again at each attempt. Empty: environment variable FAIRLEAD_BOOTSTRAP_TOKEN. Not needed once registered.',
  ),
  text(
    'kubeconfig',
    'Kubeconfig of the cluster that this agent stands for. Empty: the ServiceAccount of the pod; with --bare that of the cluster which the agent made, once there is one.',
  ),
  bool('bare', 'This machine has no cluster (yet): it is known by its machine id, and its state stands in --state-dir.'),
  text('state-dir', 'Folder for the credentials and the key of an agent with --bare.', '/var/lib/fairlead-agent'),
  {
    name: 'lifecycle',
    type: 'bool',
    default: '',
    help: 'Whether the agent makes, upgrades and removes the cluster of this machine when the parent asks. Empty: with --bare, it does. Needs --bare.',
  },
  text('socket', "Unix socket for the lifecycle's API on this machine. Empty: none.", '/run/fairlead-agent/agent.sock'),
  text(
    'artifacts',
    'Where binaries, packages and images of clusters come from: a folder or an https:// URL with a file SHA256SUMS. Empty: the hosts of the projects. A cluster may name another place.',
  ),
  text('download-url', "Base of Kubernetes' downloads when there are no --artifacts. Empty: the project's."),
  text('k3s-installer-url', "Where the installer of k3s is when there are no --artifacts. Empty: the project's."),
  text('k3s-releases-url', "Base of k3s' releases, as its installer takes it (GITHUB_URL). Empty: the project's."),
  {
    name: 'certificate-renew-before',
    type: 'duration',
    default: '720h',
    help: "The control plane's certificates are renewed when they end sooner than this; those that live not much longer, in the last third of their life.",
  },
  bool('follow-kubelet', 'When somebody upgrades the kubelet of the cluster by hand, the control plane is upgraded to the same version.'),
  { name: 'status-interval', type: 'duration', default: '10s', help: 'How often the cluster of this machine is looked at.' },
  text('namespace', "Namespace in the agent's own cluster for its Lease and Secrets.", 'clusternet-system'),
  text(
    'identity',
    'Name of this replica in the Lease: no other that runs at the same time may have it. One that is the same after a restart goes on at once. Empty: host name and a random part.',
  ),
  text('cluster-name', 'Name to register under, at most 60 characters (30 with a clusternet hub). Empty: a part of the cluster id.'),
  text('cluster-namespace', 'Namespace in the parent to ask for. Empty: the parent chooses.'),
  text('cluster-type', 'Type to register as, for example StandardCluster or EdgeCluster.', 'StandardCluster'),
  list('cluster-label', 'Label KEY=VALUE to register with. May be repeated.'),
  text('cluster-sync-mode', 'Push, Pull or Dual: what clusternet does with the cluster.', 'Pull'),
  text('cluster-cidr', 'Range of pod addresses to report. Empty: looked up.'),
  text('service-cidr', 'Range of Service addresses to report. Empty: looked up.'),
  text('direct-url', "Address of the hub itself, https://HOST[:PORT]: the tunnel goes there and not through the parent's kube-apiserver."),
  text('direct-ca-file', 'CA certificates (PEM) for --direct-url. Empty: those of --parent-ca-file, else those the system trusts.'),
  text('direct-server-name', 'Name that the certificate at --direct-url must have. Empty: its host.'),
  { name: 'tunnels', type: 'int', default: '2', help: 'Tunnels to keep, each to another replica of the hub. From 1 to 8.' },
  text('parent-protocol', "fairlead, or remotedialer for a parent that runs clusternet's hub.", 'fairlead'),
  list(
    'allow-target',
    "What may be reached besides the agent's own kube-apiserver: HOST, HOST:PORT, CIDR or CIDR:PORT; a host may begin with *. Loopback, link-local and metadata addresses only when they are named as such. May be repeated.",
  ),
  text(
    'target-ca-file',
    'CA certificates (PEM) for https targets of --allow-target and for artifacts. They are trusted beside those of the system, and read again when the file changes.',
  ),
  list(
    'allow-identity',
    "Name beginning with system: of a user or group of the parent that may be somebody in the agent's own cluster although it is powerful there. May be repeated.",
  ),
  text('health-bind-address', 'IP address to answer /healthz, /readyz and /metrics on.', '127.0.0.1'),
  { name: 'health-port', type: 'int', default: '0', help: 'Port for that. 0: none.' },
  { name: 'heartbeat', type: 'duration', default: '180s', help: 'The status of the ManagedCluster is written at least so often.' },
  { name: 'shutdown-timeout', type: 'duration', default: '20s', help: 'After SIGTERM: how long requests in the tunnels may take to end.' },
];

const OF_CLUSTERNET: readonly Flag[] = [
  ...OURS.flatMap((flag) =>
    [...ALIASES]
      .filter(([, ours]) => ours === flag.name)
      .map(([name]) => ({ ...flag, name, default: '', help: `The same as --${flag.name}.` })),
  ),
  text('cluster-reg-token', 'Token to register with. Everybody on the machine can read it: use --bootstrap-token-file.'),
  text('cluster-labels', 'The same as --cluster-label, as KEY=VALUE,KEY=VALUE.'),
];

const COMMON: readonly Flag[] = [
  {
    name: 'v',
    type: 'int',
    default: '0',
    help: 'Verbosity of the log: 0 what matters, 2 each connection and each event of a tunnel, 4 each request (method, path, user, code).',
  },
  bool('version', 'Print the version and exit.'),
  bool('help', 'Print this text and exit.'),
  bool('h', 'The same.'),
];

export const FLAGS: readonly Flag[] = [...OURS, ...OF_CLUSTERNET, ...COMMON];
