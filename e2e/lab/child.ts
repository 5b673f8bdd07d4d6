import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { applyObjects } from './hub-objects.ts';
import { type Lab, type LabOptions, startLab } from './lab.ts';
import { waitFor } from './wait.ts';

/** A second control plane, behind the agent. */
export type Child = {
  lab: Lab;
  /** Name of its node, which kwok plays. */
  node: string;
  /** Namespace of the pod. */
  namespace: string;
  /** A pod with one container that runs: exec is a real command of this machine in `workDir`, port-forward ends in an echo server. */
  pod: string;
  container: string;
  workDir: string;
  /** Adds one line to the log of every container. */
  log(line: string): void;
  /** Makes pods that run on the node and resolves when they do. */
  createPods(names: readonly string[]): Promise<void>;
  /** Makes User or Group a cluster admin of the child by an ordinary ClusterRoleBinding. */
  grant(subject: { kind: 'User' | 'Group'; name: string }, clusterRole?: string): Promise<void>;
  /** Connections that the echo server has open, and all it has had. */
  echo: { open(): number; total(): number };
  stop(): Promise<void>;
};

export type ChildOptions = Pick<LabOptions, 'addresses' | 'kubeApiServerFlags' | 'controllers' | 'version'> & {
  /** Default: one pod, `web`. False: no node, no pod and no kwok, for loads that only talk to the API server. */
  pods?: boolean;
};

const node = 'child-node-1';
const namespace = 'default';
const pod = 'web';
const container = 'main';

type Echo = { port: number; open(): number; total(): number; close(): Promise<void> };

/** A TCP server that gives back what it gets, with half close. */
async function startEcho(): Promise<Echo> {
  const sockets = new Set<Socket>();
  let total = 0;
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    total++;
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    socket.on('error', () => socket.destroy());
    socket.pipe(socket);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    open: () => sockets.size,
    total: () => total,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

const podObject = (name: string) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace, labels: { app: name } },
  spec: { nodeName: node, containers: [{ name: container, image: 'example/image', ports: [{ containerPort: 80 }] }] },
});

/** Starts a control plane with a node and a pod that kwok plays. Rejects, with nothing left behind, when any of it fails. */
export async function startChild(options: ChildOptions = {}): Promise<Child> {
  const { pods = true, ...labOptions } = options;
  const echo = await startEcho();
  let started: Lab | undefined;
  try {
    const folder = { work: '', log: '' };
    const lab = await startLab({
      ...labOptions,
      moto: false,
      kwok: pods,
      nodes: pods ? [{ name: node, providerID: 'kwok://child-node-1' }] : [],
      ...(pods
        ? {
            podAccess: (dir: string) => {
              folder.work = join(dir, 'pods');
              folder.log = join(dir, 'pods', 'container.log');
              mkdirSync(folder.work, { mode: 0o700 });
              writeFileSync(folder.log, '');
              return { workDir: folder.work, logFile: folder.log, forwardPort: echo.port };
            },
          }
        : {}),
    });
    started = lab;
    lab.defer(echo.close);
    const createPods = async (names: readonly string[]) => {
      for (const name of names) await lab.api.json('POST', `/api/v1/namespaces/${namespace}/pods`, { body: podObject(name) });
      for (const name of names) {
        const running = async () =>
          (await lab.api.json<{ status: { phase?: string } }>('GET', `/api/v1/namespaces/${namespace}/pods/${name}`)).status.phase ===
          'Running';
        await waitFor(running, { what: `pod ${name} to run` });
      }
    };
    if (pods) await createPods([pod]);
    return {
      lab,
      node,
      namespace,
      pod,
      container,
      workDir: folder.work,
      log: (line) => appendFileSync(folder.log, `${new Date().toISOString().replace('Z', '000000Z')} stdout F ${line}\n`),
      createPods,
      grant: (subject, clusterRole = 'cluster-admin') =>
        applyObjects(lab, [
          {
            apiVersion: 'rbac.authorization.k8s.io/v1',
            kind: 'ClusterRoleBinding',
            metadata: { name: `lab-${clusterRole}-${subject.kind}-${subject.name}`.toLowerCase().replaceAll(/[^\w.-]/g, '-') },
            roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: clusterRole },
            subjects: [{ apiGroup: 'rbac.authorization.k8s.io', ...subject }],
          },
        ]),
      echo: { open: echo.open, total: echo.total },
      stop: lab.stop,
    };
  } catch (error) {
    if (started) await started.stop();
    else await echo.close();
    throw error;
  }
}
