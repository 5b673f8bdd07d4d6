import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type AgentProcess, startAgent } from '../../e2e/lab/agent.ts';
import { type Child, startChild } from '../../e2e/lab/child.ts';
import { eachOf } from '../../e2e/lab/each.ts';
import { type Hub, startHub } from '../../e2e/lab/hub.ts';
import { applyObjects } from '../../e2e/lab/hub-objects.ts';
import { type Lab, startLab } from '../../e2e/lab/lab.ts';
import type { Client } from '../lib/client.ts';
import type { Target } from '../lib/http1.ts';

export const VERSION_PATH = '/version';
/** 500 ConfigMaps of the size that small ones have: 317 KB as a list. */
export const SMALL_LIST = '/api/v1/namespaces/small/configmaps';
/** 100 ConfigMaps of 500 KB. */
export const LARGE_LIST = '/api/v1/namespaces/large/configmaps';

const user = 'bench';

/** Everything that the rows are measured on. `dist` has the release bundles. */
export type Bench = {
  parent: Lab;
  child: Child;
  hub: Hub;
  readonly agent: AgentProcess;
  client: Client;
  dist: string;
  /** The child's API server itself. */
  direct(path: string): Target;
  /** The child through the parent's kube-apiserver, hub and tunnel. */
  through(path: string): Target;
  /** The child through one replica of the hub, without kube-apiserver. */
  atHub(path: string, replica?: number): Target;
  /** The hub's discovery through the parent's kube-apiserver: the hop to the hub. */
  hop(): Target;
  /** Ends the agent and starts another one with these flags. */
  replaceAgent(flags: readonly string[]): Promise<void>;
  /** Runs `work` while the agent has its tunnel to the hub itself, past kube-apiserver, and then puts the usual one back. */
  pastKubeApiServer<T>(work: () => Promise<T>): Promise<T>;
  hubPid(index?: number): number;
  stop(): Promise<void>;
};

async function fill(lab: Lab): Promise<void> {
  const make = async (namespace: string, count: number, bytes: number) => {
    await lab.api.json('POST', '/api/v1/namespaces', { body: { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } } });
    await eachOf(Array.from({ length: count }).keys(), 8, async (index) => {
      const body = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: `object-${index}` }, data: { text: 'x'.repeat(bytes) } };
      await lab.api.json('POST', `/api/v1/namespaces/${namespace}/configmaps`, { body });
    });
  };
  await make('small', 500, 285);
  await make('large', 100, 500_000);
}

/** Two control planes, two replicas of which the second is down at first, and one agent. */
export async function startBench(client: Client, dist: string): Promise<Bench> {
  const parent = await startLab({ moto: false, kwok: false, nodes: [] });
  let child: Child | undefined;
  const stop = async () => {
    await child?.stop();
    await parent.stop();
  };
  try {
    child = await startChild({ pods: false });
    const { lab } = child;
    await fill(lab);
    const hub = await startHub(parent, { entry: join(dist, 'fairlead-hub.mjs'), replicas: 2, flags: ['--shutdown-delay=0s'] });
    await hub.kill(1, 'SIGTERM');
    const joined = child;
    const start = (flags: readonly string[]) => startAgent(joined, parent, { entry: join(dist, 'fairlead-agent.mjs'), flags });
    let agent = await start([]);
    const replaceAgent = async (flags: readonly string[]) => {
      await agent.stop();
      agent = await start(flags);
    };
    await allow(parent);
    await child.grant({ kind: 'User', name: user });
    const [proxied, hubCA] = [await agent.proxyPath(), await hub.caBundle()];
    const pair = (from: Lab) => {
      const { certificate: cert, key } = from.clientCertificate({ user });
      return { cert, key };
    };
    const [ofParent, ofChild] = [pair(parent), pair(lab)];
    const servername = `${hub.serviceName}.${hub.namespace}.svc`;
    return {
      parent,
      child,
      hub,
      get agent() {
        return agent;
      },
      replaceAgent,
      async pastKubeApiServer(work) {
        const caFile = join(lab.dir, 'hub-ca.crt');
        writeFileSync(caFile, await hub.caBundle());
        await replaceAgent([`--direct-url=${hub.replica(0).directURL}`, `--direct-ca-file=${caFile}`, '--tunnels=1']);
        try {
          return await work();
        } finally {
          await replaceAgent([]);
        }
      },
      client,
      dist,
      direct: (path) => ({ url: lab.apiServerURL + path, ca: lab.ca, ...ofChild }),
      through: (path) => ({ url: parent.apiServerURL + proxied + path, ca: parent.ca, ...ofParent }),
      atHub: (path, replica = 0) => ({ url: hub.replica(replica).directURL + proxied + path, ca: hubCA, servername, ...ofParent }),
      hop: () => ({ url: `${parent.apiServerURL}/apis/infraops.michael.io/v1`, ca: parent.ca, ...ofParent }),
      hubPid: (index = 0) => {
        const pid = hub.replica(index).process?.pid;
        if (pid === undefined) throw new Error(`replica ${index} of the hub does not run`);
        return pid;
      },
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The user may use all sockets of the parent, by RBAC as anybody else. */
async function allow(parent: Lab): Promise<void> {
  const metadata = { name: 'bench-sockets' };
  const rules = [{ apiGroups: ['proxies.clusternet.io'], resources: ['sockets/proxy'], verbs: ['*'] }];
  const subjects = [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: user }];
  const roleRef = { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: metadata.name };
  await applyObjects(parent, [
    { apiVersion: 'rbac.authorization.k8s.io/v1', kind: 'ClusterRole', metadata, rules },
    { apiVersion: 'rbac.authorization.k8s.io/v1', kind: 'ClusterRoleBinding', metadata, roleRef, subjects },
  ]);
}
