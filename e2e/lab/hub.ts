import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { Agent, get } from 'node:https';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NODE_FLAGS } from '../../src/kube/node-flags.ts';
import { type ApiClient, createApiClient } from './api-client.ts';
import { createAuthority, issueCertificate } from './certificates.ts';
import { applyCustomResources, applyHubObjects, hubNamespace, hubServiceAccount, hubServiceName, publishEndpoint } from './hub-objects.ts';
import { type UserCredentials, writeKubeconfig } from './kubeconfig.ts';
import type { Lab } from './lab.ts';
import { freePort } from './ports.ts';
import { type LabProcess, readyOrEnded, startProcess } from './process.ts';
import { waitFor } from './wait.ts';

export type HubOptions = {
  /** Default 1. */
  replicas?: number;
  /** Added after the lab's own flags, for all replicas or by index. */
  flags?: readonly string[] | ((index: number) => readonly string[]);
  /** Added to the environment, for all replicas or by index. */
  env?: Record<string, string> | ((index: number) => Record<string, string>);
  /** self (default): the hub makes its certificates and fills in the caBundle. files: the lab gives it some. */
  certificates?: 'self' | 'files';
  /** The program that Node runs; default src/hub/main.ts. */
  entry?: string;
  /** Name of the Lease of the leader; default fairlead-hub. */
  leaseName?: string;
  /** False: resolves as soon as the processes run, and does not wait for the APIService. */
  wait?: boolean;
};

export type HubReplica = {
  index: number;
  /** New at each start, as the name of a pod would be. */
  identity: string;
  ip: string;
  port: number;
  /** https://IP:PORT, past kube-apiserver. */
  url: string;
  /** Where other replicas reach it. */
  peerPort: number;
  directPort: number;
  /** https://IP:PORT for callers that come with a token or certificate of their own. */
  directURL: string;
  log: string;
  process: LabProcess | undefined;
};

/** Replicas of the hub outside the cluster, behind the APIService of a lab. */
export type Hub = {
  namespace: string;
  serviceName: string;
  replicas: readonly HubReplica[];
  replica(index: number): HubReplica;
  /** Ends one with SIGKILL, or the signal given, and takes its address out of the Service unless `leaveEndpoint`, as a node that died would. */
  kill(index: number, signal?: NodeJS.Signals, options?: { leaveEndpoint?: boolean }): Promise<void>;
  /** Starts one that was ended and resolves when it is ready and behind the Service again. */
  start(index: number): Promise<void>;
  /** Index of the replica that holds the Lease; undefined while nobody that runs does. */
  leader(): Promise<number | undefined>;
  waitForLeader(): Promise<number>;
  /** Names of the APIServices that lead to it. */
  apiServices: readonly string[];
  /** Resolves when each APIService says Available=True. */
  waitForAvailable(timeout?: number): Promise<void>;
  /** PEM in the first APIService; rejects while there is none. */
  caBundle(): Promise<string>;
  /** A client straight to one replica, verifying its certificate against the caBundle. */
  client(index: number, credentials?: UserCredentials): Promise<ApiClient>;
  /** With certificates from files: writes a new pair of the same CA over them. */
  rotateCertificate(): void;
  stop(): Promise<void>;
};

type DiscoveredGroup = { metadata: { name: string }; versions: { version: string; freshness: string }[] };
type ApiService = { spec: { caBundle?: string }; status?: { conditions?: Array<{ type: string; status: string; message?: string }> } };

// As a kubelet's probe, which does not verify either.
function probe(url: string, signal: AbortSignal): Promise<number> {
  return new Promise((resolve, reject) => {
    const request = get(`${url}/readyz`, { agent: new Agent({ keepAlive: false, rejectUnauthorized: false }), signal }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    request.once('error', reject);
  });
}

/** Starts the hub's replicas and resolves when the APIService is available. Ended by `stop`, or with the lab. */
export async function startHub(lab: Lab, options: HubOptions = {}): Promise<Hub> {
  const { replicas: count = 1, certificates = 'self', leaseName = 'fairlead-hub' } = options;
  const entry = options.entry ?? fileURLToPath(new URL('../../src/hub/main.ts', import.meta.url));
  const dir = join(lab.dir, 'hub');
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const of = <T>(value: T | ((index: number) => T) | undefined, index: number, none: T): T =>
    value === undefined ? none : typeof value === 'function' ? (value as (index: number) => T)(index) : value;

  const replicas: HubReplica[] = [];
  for (let index = 0; index < count; index++) {
    const ip = index === 0 ? lab.hubAddress : lab.acquireAddress().ip;
    const [port, peerPort, directPort] = [await freePort(ip), await freePort(ip), await freePort(ip)];
    replicas.push({
      index,
      identity: '',
      ip,
      port,
      peerPort,
      directPort,
      url: `https://${ip}:${port}`,
      directURL: `https://${ip}:${directPort}`,
      log: join(dir, `hub-${index}.log`),
      process: undefined,
    });
  }

  const tls = { crt: join(dir, 'tls.crt'), key: join(dir, 'tls.key') };
  const authority = certificates === 'files' ? createAuthority('fairlead-lab-hub-ca') : undefined;
  const serverName = `${hubServiceName}.${hubNamespace}.svc`;
  const rotateCertificate = () => {
    if (!authority) throw new Error('this hub makes its own certificates');
    const pair = issueCertificate(authority, {
      commonName: serverName,
      altNames: [serverName, ...replicas.map(({ ip }) => ip)],
      usages: ['serverAuth'],
    });
    for (const [path, content] of [
      [tls.key, pair.key],
      [tls.crt, pair.certificate],
    ] as const) {
      writeFileSync(`${path}.new`, content, { mode: 0o600 });
      renameSync(`${path}.new`, path);
    }
  };
  if (authority) rotateCertificate();

  await applyCustomResources(lab);
  const { apiServices, portName } = await applyHubObjects(lab, authority?.certificate);
  const token = await lab.serviceAccountToken(hubNamespace, hubServiceAccount, 7 * 24 * 3600);
  const kubeconfig = writeKubeconfig(join(dir, 'kubeconfig'), {
    server: lab.apiServerURL,
    ca: lab.ca,
    user: hubServiceAccount,
    credentials: { token },
    namespace: hubNamespace,
  });
  let starts = 0;

  const apiService = (name: string) => lab.api.json<ApiService>('GET', `/apis/apiregistration.k8s.io/v1/apiservices/${name}`);
  const caBundle = async () => {
    const name = apiServices[0] ?? '';
    const { spec } = await apiService(name);
    if (!spec.caBundle) throw new Error(`APIService ${name} has no caBundle yet`);
    return Buffer.from(spec.caBundle, 'base64').toString('utf8');
  };
  const waitForAvailable = async (timeout = 60_000) => {
    for (const name of apiServices) {
      const look = async () => {
        const available = (await apiService(name)).status?.conditions?.find(({ type }) => type === 'Available');
        if (available?.status !== 'True')
          throw new Error(`${available?.status ?? 'no condition'}: ${available?.message ?? ''}; logs in ${dir}`);
        return true;
      };
      await waitFor(look, { what: `APIService ${name} to be available`, timeout });
    }
  };
  // kube-apiserver asks for discovery some time after it has called an APIService available; until then kubectl knows no resource of it.
  const waitForDiscovery = async () => {
    const headers = { accept: 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList' };
    const look = async () => {
      const { text } = await lab.api.request('GET', '/apis', { headers });
      const { items } = JSON.parse(text) as { items: DiscoveredGroup[] };
      const current = items.flatMap(({ metadata, versions }) =>
        versions.flatMap(({ version, freshness }) => (freshness === 'Current' ? `${version}.${metadata.name}` : [])),
      );
      const missing = apiServices.filter((name) => !current.includes(name));
      if (missing.length > 0) throw new Error(`${missing.join(', ')} are not there`);
      return true;
    };
    await waitFor(look, { what: 'kube-apiserver to have read the discovery of the hub', timeout: 60_000 });
  };
  const replica = (index: number): HubReplica => {
    const found = replicas[index];
    if (!found) throw new Error(`this hub has ${replicas.length} replicas, none with index ${index}`);
    return found;
  };

  async function start(index: number): Promise<void> {
    const one = replica(index);
    if (one.process?.running()) return;
    one.identity = `${hubServiceName}-${index}-${++starts}`;
    const proc = await startProcess({
      name: `hub-${index}`,
      command: process.execPath,
      args: [
        ...NODE_FLAGS,
        entry,
        `--kubeconfig=${kubeconfig}`,
        `--namespace=${hubNamespace}`,
        `--service-name=${hubServiceName}`,
        `--bind-address=${one.ip}`,
        `--secure-port=${one.port}`,
        `--identity=${one.identity}`,
        '--leader-elect=true',
        `--peer-port=${one.peerPort}`,
        `--direct-port=${one.directPort}`,
        `--direct-url=${replica(0).directURL}`,
        ...apiServices.map((name) => `--api-service=${name}`),
        // So that the direct port can be reached by its address; all replicas show the same certificate.
        ...(authority ? [] : replicas.map(({ ip }) => `--cert-extra-name=${ip}`)),
        ...(authority ? [`--tls-cert-file=${tls.crt}`, `--tls-private-key-file=${tls.key}`] : []),
        ...of(options.flags, index, []),
      ],
      env: { HOME: dir, ...(lab.hasEC2 ? lab.ec2.env : {}), ...of(options.env, index, {}) },
      log: one.log,
    });
    one.process = proc;
    await readyOrEnded(proc, (signal) =>
      waitFor(async () => (await probe(one.url, signal)) === 200, { what: `${proc.name} to be ready`, timeout: 60_000, signal }),
    );
    await publishEndpoint(lab, one, portName, true);
  }

  async function kill(index: number, signal: NodeJS.Signals = 'SIGKILL', { leaveEndpoint = false } = {}): Promise<void> {
    const one = replica(index);
    const ended = one.process?.stop(signal, 30_000);
    // A pod that is deleted gets no new connections from the moment it is asked to end; one that died, when somebody notices.
    if (!leaveEndpoint && signal === 'SIGTERM') await publishEndpoint(lab, one, portName, false);
    await ended;
    if (!leaveEndpoint) await publishEndpoint(lab, one, portName, false);
  }

  async function leader(): Promise<number | undefined> {
    const path = `/apis/coordination.k8s.io/v1/namespaces/${hubNamespace}/leases/${leaseName}`;
    const answer = await lab.api.request('GET', path);
    if (answer.status !== 200) return undefined;
    const { spec } = JSON.parse(answer.text) as { spec: { holderIdentity?: string } };
    return replicas.find((one) => one.process?.running() && one.identity === spec.holderIdentity)?.index;
  }

  async function stop(): Promise<void> {
    await Promise.all(replicas.map((one) => one.process?.stop('SIGTERM', 30_000)));
  }

  lab.defer(() => Promise.all(replicas.map((one) => one.process?.stop('SIGKILL'))).then(() => undefined));
  await allStarted(replicas.map(({ index }) => start(index)));
  if (options.wait !== false) {
    await waitForAvailable();
    await waitForDiscovery();
  }

  return {
    namespace: hubNamespace,
    serviceName: hubServiceName,
    replicas,
    replica,
    apiServices,
    kill,
    start,
    leader,
    async waitForLeader() {
      const holder = async () => {
        const index = await leader();
        return index !== undefined && { index };
      };
      return (await waitFor(holder, { what: `a running replica to hold the Lease ${leaseName}`, timeout: 60_000 })).index;
    },
    waitForAvailable,
    caBundle,
    async client(index, credentials) {
      const client = createApiClient({
        server: replica(index).url,
        ca: await caBundle(),
        servername: serverName,
        ...(credentials ? { credentials } : {}),
      });
      lab.defer(client.close);
      return client;
    },
    rotateCertificate,
    stop,
  };
}

/** Waits for all, then rejects with the first error: what has started can be ended by its owner. */
async function allStarted(starts: ReadonlyArray<Promise<void>>): Promise<void> {
  for (const result of await Promise.allSettled(starts)) if (result.status === 'rejected') throw result.reason;
}
