import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { acquireAddress, type LabAddress } from './addresses.ts';
import { type ApiClient, createApiClient } from './api-client.ts';
import { type Certificate, issueCertificate } from './certificates.ts';
import { defaultControllers, startControllerManager, startEtcd, startKubeApiServer } from './control-plane.ts';
import { type DemoKubelet, startDemoKubelet } from './demo-kubelet.ts';
import { createLabFolder } from './folders.ts';
import { writeKubeconfig } from './kubeconfig.ts';
import { type CommandOptions, type CommandResult, runCommand } from './kubectl.ts';
import { type PodAccess, startKwok } from './kwok.ts';
import { type Ec2, startEc2 } from './moto.ts';
import { createNodes, demoNodes, type LabNode, type NodeSpec } from './nodes.ts';
import { createPki, type Pki } from './pki.ts';
import { freePort } from './ports.ts';
import type { LabProcess } from './process.ts';
import { createTeardown } from './teardown.ts';
import { toolsFolder, versionFolder } from './tools.ts';

export type LabOptions = {
  /** Default: the five of the demo. */
  nodes?: readonly NodeSpec[];
  /** Added to kube-apiserver's, for example an audit log. `{dir}` in a flag becomes the lab's folder. */
  kubeApiServerFlags?: readonly string[];
  /** Default: `defaultControllers`. An empty list: no kube-controller-manager. */
  controllers?: readonly string[];
  /** Version of kube-apiserver and kube-controller-manager, as `v1.35.4`; see `noVersion`. Default: that of the tools. */
  version?: string;
  /** Default true. */
  kwok?: boolean;
  /** Default true. False: nodes get made-up instance ids, and `ec2` and `kubelet` throw. */
  moto?: boolean;
  /** Milliseconds that a rebooting node is NotReady; default 300. */
  downTime?: number;
  /** Further addresses that kube-apiserver is reached at; its certificate names them, and it listens on all addresses of the machine. */
  addresses?: readonly string[];
  /** What exec, logs and port-forward do in the pods of all nodes, given the lab's folder. Default: they fail. */
  podAccess?: (dir: string) => PodAccess;
};

export type UserOptions = { user: string; groups?: readonly string[]; namespace?: string };

/** A Kubernetes control plane of its own, with nodes and their cloud. */
export type Lab = {
  /** Holds certificates, kubeconfigs and the log of every process (`NAME.log`). Gone after `stop`. */
  dir: string;
  /** The folder of kubectl and the other programs. */
  bin: string;
  apiServerURL: string;
  /** https://ADDRESS:PORT for another address of the machine, which must be one of the option `addresses`. */
  apiServerAt(address: string): string;
  /** PEM of the cluster's CA. */
  ca: string;
  pki: Pki;
  adminKubeconfig: string;
  /** As cluster admin (system:masters). */
  api: ApiClient;
  nodes: readonly LabNode[];
  /** The address for a hub outside the cluster; see `acquireAddress` for more of them. */
  hubAddress: string;
  /** False in a lab without moto. */
  hasEC2: boolean;
  /** EC2 behind the gate. Throws in a lab without moto. */
  readonly ec2: Ec2;
  /** Throws in a lab without moto. */
  readonly kubelet: DemoKubelet;
  /** The nth of `nodes`; throws when there are fewer. */
  node(index: number): LabNode;
  /** One more address of the machine, given back at `stop` or by its `release`. */
  acquireAddress(): LabAddress;
  /** The real kubectl, as admin unless told otherwise. Resolves for every exit code. HOME is the lab's folder, so nothing of the user's is read. */
  kubectl(args: readonly string[], options?: CommandOptions): Promise<CommandResult>;
  /** Environment in which `kubectl` is run, for other programs. */
  commandEnv(kubeconfig?: string): Record<string, string>;
  clientCertificate(user: UserOptions): Certificate;
  /** A client with a new certificate of that user. */
  clientFor(user: UserOptions): ApiClient;
  /** Path of a kubeconfig with a new client certificate. */
  kubeconfigFor(user: UserOptions): string;
  /** A token by TokenRequest, valid for an hour unless told otherwise; the ServiceAccount must exist. */
  serviceAccountToken(namespace: string, name: string, expirationSeconds?: number): Promise<string>;
  /** Path of a kubeconfig with such a token. */
  serviceAccountKubeconfig(namespace: string, name: string): Promise<string>;
  /** Ends kube-apiserver: SIGTERM and up to 2 s for requests in flight (open watches keep it much longer), or the signal given. */
  stopApiServer(signal?: NodeJS.Signals): Promise<void>;
  /** Starts it again on the same port and resolves when it is ready. */
  startApiServer(): Promise<void>;
  restartApiServer(): Promise<void>;
  processes(): LabProcess[];
  /** Has `undo` run at `stop`, before what was there earlier is taken down. */
  defer(undo: () => Promise<void> | void): void;
  /** Ends every process, gives addresses back, removes the folder. Idempotent. */
  stop(): Promise<void>;
};

/** Brings a lab up and resolves when everything in it is ready. Rejects, with nothing left behind, when any of it fails. */
export async function startLab(options: LabOptions = {}): Promise<Lab> {
  const bin = await toolsFolder();
  const teardown = createTeardown();
  try {
    return await build(bin, options, teardown);
  } catch (error) {
    await teardown.run();
    throw error;
  }
}

async function build(bin: string, options: LabOptions, teardown: ReturnType<typeof createTeardown>): Promise<Lab> {
  const { kubeApiServerFlags = [], controllers = defaultControllers, kwok = true, moto = true, addresses: names = [], podAccess } = options;
  const folder = createLabFolder();
  teardown.defer(folder.remove);
  const dir = folder.path;
  const pki = createPki(join(dir, 'pki'), names);
  mkdirSync(join(dir, 'kubeconfigs'), { mode: 0o700 });
  const flags = [
    ...(names.length > 0 ? ['--bind-address=0.0.0.0'] : []),
    // Not Hostname, its first choice: nobody resolves the names of these nodes. kwok does not ask who calls.
    ...(podAccess ? ['--kubelet-preferred-address-types=InternalIP'] : []),
    ...kubeApiServerFlags.map((flag) => flag.replaceAll('{dir}', dir)),
  ];

  const [port, etcdPort, etcdPeerPort, kwokPort] = await Promise.all([freePort(), freePort(), freePort(), freePort()]);
  const server = `https://127.0.0.1:${port}`;
  const specs = (options.nodes ?? demoNodes).map((spec) => (podAccess ? { ...spec, kubeletPort: kwokPort } : spec));
  const ca = pki.clusterCA.certificate;
  const clientCertificate = ({ user, groups = [] }: UserOptions) =>
    issueCertificate(pki.clusterCA, { commonName: user, organizations: groups, usages: ['clientAuth'] });
  let kubeconfigs = 0;
  const kubeconfigPath = (name: string) => join(dir, 'kubeconfigs', `${++kubeconfigs}-${name.replaceAll(/[^\w.-]/g, '-')}`);
  const kubeconfigFor = (user: UserOptions) =>
    writeKubeconfig(kubeconfigPath(user.user), {
      server,
      ca,
      user: user.user,
      credentials: clientCertificate(user),
      ...(user.namespace === undefined ? {} : { namespace: user.namespace }),
    });

  const admin = { user: 'fairlead-admin', groups: ['system:masters'] };
  const api = createApiClient({ server, ca, credentials: clientCertificate(admin) });
  teardown.defer(api.close);
  const adminKubeconfig = kubeconfigFor(admin);

  const addresses = new Set<LabAddress>();
  teardown.defer(() => {
    for (const address of addresses) address.release();
  });
  const takeAddress = () => {
    const address = acquireAddress();
    addresses.add(address);
    return address;
  };
  const hubAddress = takeAddress().ip;

  const context = { bin: options.version === undefined ? bin : versionFolder(bin, options.version), dir, pki };
  const running = new Map<string, LabProcess>();
  const run = async (start: Promise<LabProcess>): Promise<LabProcess> => {
    const proc = await start;
    running.set(proc.name, proc);
    teardown.defer(() => proc.stop('SIGKILL'));
    return proc;
  };
  const startApiServer = async () => {
    await run(startKubeApiServer(context, { port, etcdPort, flags }, api));
  };

  const runEc2 = async () => {
    const started = await startEc2({ bin, dir });
    teardown.defer(started.stop);
    return started;
  };
  const [ec2] = await allSettled([
    moto ? runEc2() : Promise.resolve(undefined),
    run(startEtcd(context, etcdPort, etcdPeerPort)).then(startApiServer),
  ] as const);
  const runManager = () =>
    run(startControllerManager(context, { kubeconfig: kubeconfigFor({ user: 'system:kube-controller-manager' }), controllers }, api));
  const runKwok = () =>
    run(
      startKwok({
        bin,
        dir,
        kubeconfig: kubeconfigFor({ user: 'kwok', groups: ['system:masters'] }),
        port: kwokPort,
        podAccess: podAccess?.(dir),
      }),
    );
  const [nodes] = await allSettled([
    createNodes(api, specs, ec2?.launch ?? madeUpInstances),
    controllers.length > 0 ? runManager() : Promise.resolve(undefined),
    kwok ? runKwok() : Promise.resolve(undefined),
  ] as const);
  const { downTime } = options;
  const kubelet = ec2 && startDemoKubelet({ client: api, gate: ec2.gate, nodes, ...(downTime === undefined ? {} : { downTime }) });
  if (kubelet) teardown.defer(kubelet.stop);

  const commandEnv = (kubeconfig = adminKubeconfig) => ({ PATH: `${bin}:${process.env['PATH'] ?? ''}`, HOME: dir, KUBECONFIG: kubeconfig });
  const serviceAccountToken = async (namespace: string, name: string, expirationSeconds = 3600) => {
    const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${name}/token`;
    const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: { expirationSeconds } };
    return (await api.json<{ status: { token: string } }>('POST', path, { body })).status.token;
  };
  const stopApiServer = async (signal: NodeJS.Signals = 'SIGTERM') => running.get('kube-apiserver')?.stop(signal, 2000);

  return {
    dir,
    bin,
    apiServerURL: server,
    apiServerAt: (address) => `https://${address}:${port}`,
    ca,
    pki,
    adminKubeconfig,
    api,
    nodes,
    hubAddress,
    hasEC2: ec2 !== undefined,
    get ec2() {
      if (!ec2) throw new Error('this lab was started without moto');
      return ec2;
    },
    get kubelet() {
      if (!kubelet) throw new Error('this lab was started without moto, so nothing tells the demo kubelet what to do');
      return kubelet;
    },
    node(index) {
      const node = nodes[index];
      if (!node) throw new Error(`this lab has ${nodes.length} nodes, none with index ${index}`);
      return node;
    },
    acquireAddress: takeAddress,
    kubectl: (args, { kubeconfig, env, ...rest } = {}) =>
      runCommand(join(bin, 'kubectl'), args, { ...rest, env: { ...commandEnv(kubeconfig), ...env } }),
    commandEnv,
    clientCertificate,
    clientFor(user) {
      const client = createApiClient({ server, ca, credentials: clientCertificate(user) });
      teardown.defer(client.close);
      return client;
    },
    kubeconfigFor,
    serviceAccountToken,
    async serviceAccountKubeconfig(namespace, name) {
      const token = await serviceAccountToken(namespace, name);
      const user = `system:serviceaccount:${namespace}:${name}`;
      return writeKubeconfig(kubeconfigPath(name), { server, ca, user, credentials: { token }, namespace });
    },
    stopApiServer,
    startApiServer,
    async restartApiServer() {
      await stopApiServer();
      await startApiServer();
    },
    processes: () => [...running.values()],
    defer: teardown.defer,
    stop: teardown.run,
  };
}

/** Like Promise.all, but a rejection waits for the others too: what they started is then known and can be ended. */
async function allSettled<A, B, C = undefined>(work: readonly [Promise<A>, Promise<B>, Promise<C>?]): Promise<[A, B, C | undefined]> {
  await Promise.allSettled(work);
  return [await work[0], await work[1], await work[2]];
}

let madeUp = 0;
async function madeUpInstances(_zone: string, count: number): Promise<Array<{ instanceID: string; privateIP: string }>> {
  return Array.from({ length: count }, () => {
    madeUp++;
    return { instanceID: `i-${madeUp.toString(16).padStart(17, '0')}`, privateIP: `10.1.${(madeUp >> 8) & 255}.${madeUp & 255}` };
  });
}
