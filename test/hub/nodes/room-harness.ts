import { PassThrough } from 'node:stream';
import { Registry } from 'prom-client';
import { parseTarget, requestInfo } from '../../../src/hub/http/request-info.ts';
import type { ResourceInfo } from '../../../src/hub/http/resource.ts';
import { routes } from '../../../src/hub/http/routes.ts';
import type { Cloud, PowerState } from '../../../src/hub/nodes/clouds/cloud.ts';
import { ProviderIDError } from '../../../src/hub/nodes/clouds/provider-id.ts';
import { nodeRoom } from '../../../src/hub/nodes/node-room.ts';
import { DEFAULT_NODE_SETTINGS, type NodeSettings } from '../../../src/hub/nodes/settings.ts';
import type { EventInput } from '../../../src/kube/events.ts';
import { StatusError } from '../../../src/kube/status.ts';
import { type KubeApi, kubeApi, type Stored } from '../../support/kube-api.ts';
import { eventually } from '../auth/eventually.ts';

export const NODES = '/api/v1/nodes';
export const MAPS = '/api/v1/namespaces/x/configmaps';
const BASE = '/apis/infraops.michael.io/v1';

export type Asked = {
  code: number;
  object: object;
  warnings: string[];
  annotations: Record<string, string>;
  text: () => string;
  end: () => void;
};
export type Options = { body?: object; force?: boolean; user?: string };

/** The nodes room over an in-memory API and a cloud in memory whose machines boot anew when they are told to. */
export type Harness = {
  api: KubeApi;
  ask(method: string, path: string, options?: Options): Promise<Asked>;
  /** Calls of the cloud that had an effect, and dry runs. */
  calls: string[];
  power: Map<string, PowerState>;
  events: EventInput[];
  node(
    name: string,
    more?: { ready?: boolean; providerID?: string; annotations?: Record<string, string>; labels?: Record<string, string> },
  ): Stored;
  operations(): Stored[];
  status(name: string): { phase: string; reason?: string; history?: { phase: string }[]; calls?: object[]; machine?: object };
  /** Begins to lead; returns what ends it. */
  lead(): () => Promise<void>;
  synced(nodes: number): Promise<void>;
  errors: unknown[];
  close(): Promise<void>;
};

export async function harness(settings: Partial<NodeSettings> = {}, hardRestart = true): Promise<Harness> {
  const api = await kubeApi();
  const stop = new AbortController();
  const calls: string[] = [];
  const events: EventInput[] = [];
  const errors: unknown[] = [];
  const power = new Map<string, PowerState>();
  let boots = 1;

  function boot(instance: string): void {
    power.set(instance, 'Running');
    const found = api.get(`${NODES}/${instance}`);
    if (found) api.put(NODES, { ...found, status: { ...found.status, nodeInfo: { bootID: `boot-${++boots}` } } });
  }
  const effect = (what: string, instance: string, dryRun: boolean, beforeSend: () => void, work: () => void) => {
    if (!dryRun) beforeSend();
    calls.push(`${dryRun ? 'dry ' : ''}${what} ${instance}`);
    if (!dryRun) work();
  };
  const cloud: Cloud = {
    name: 'memory',
    hardRestart,
    async describe({ instanceID }) {
      const powerState = power.get(instanceID) ?? 'Running';
      return { powerState, providerState: powerState.toLowerCase(), type: 't', addresses: [] };
    },
    async restart({ instanceID }, { mode, dryRun }, { beforeSend }) {
      effect(`restart ${mode}`, instanceID, dryRun, beforeSend, () => boot(instanceID));
    },
    async stop({ instanceID }, { mode, dryRun }, { beforeSend }) {
      effect(`stop ${mode}`, instanceID, dryRun, beforeSend, () => power.set(instanceID, 'Stopped'));
    },
    async start({ instanceID }, { dryRun }, { beforeSend }) {
      effect('start', instanceID, dryRun, beforeSend, () => boot(instanceID));
    },
  };
  const room = nodeRoom({
    client: api.client,
    resolve({ providerID }) {
      if (!providerID.startsWith('memory://'))
        throw new ProviderIDError(`${JSON.stringify(providerID)} is not supported; supported: memory://NAME`);
      return { cloud, ref: { cloud: 'memory', account: undefined, region: 'r', zone: '', instanceID: providerID.slice(9) } };
    },
    settings: {
      ...DEFAULT_NODE_SETTINGS,
      namespace: 'x',
      maxNodesDown: { percent: 100 },
      maxNodesDownPerZone: { percent: 100 },
      ...settings,
    },
    registry: new Registry(),
    events: (event) => events.push(event),
    hubNodes: () => [],
    identity: 'replica-1',
    signal: stop.signal,
    onError: (error) => errors.push(error),
  });
  const table = routes(room.resources);

  async function ask(method: string, path: string, { body, force = false, user = 'alice' }: Options = {}): Promise<Asked> {
    const target = parseTarget(BASE + path);
    const warnings: string[] = [];
    const annotations: Record<string, string> = {};
    const gone = new AbortController();
    const output = new PassThrough();
    let text = '';
    output.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    const end = () => gone.abort();
    try {
      const info = requestInfo(method, target) as ResourceInfo;
      const reply = await table.find(info).handler({
        info,
        user: { name: user, uid: '', groups: ['g'], extra: {} },
        query: target.query,
        headers: {},
        auditID: 'audit-1',
        signal: gone.signal,
        body: async () => body,
        warn: (warning) => void warnings.push(warning),
        annotate(name, value) {
          annotations[name] = value;
        },
        allowed: async () => force,
      });
      if ('stream' in reply) {
        const response = Object.assign(output, { writeHead: () => response, flushHeaders: () => undefined, destroyed: false });
        reply.stream(undefined as never, response as never).catch((error: unknown) => errors.push(error));
        return { code: 200, object: {}, warnings, annotations, text: () => text, end };
      }
      const object = ('object' in reply ? reply.object : JSON.parse(String(reply.json))) as object;
      return { code: reply.code ?? 200, object, warnings, annotations, text: () => text, end };
    } catch (error) {
      if (!(error instanceof StatusError)) throw error;
      return { code: error.status.code, object: error.status as never, warnings, annotations, text: () => text, end };
    }
  }

  const operations = () => api.all(MAPS).filter(({ metadata }) => metadata.labels?.['infraops.michael.io/object'] === 'operation');
  return {
    api,
    ask,
    calls,
    power,
    events,
    errors,
    operations,
    node: (name, { ready = true, providerID = `memory://${name}`, annotations = {}, labels = {} } = {}) =>
      api.put(NODES, {
        metadata: { name, annotations, labels },
        spec: { providerID },
        status: { conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }], nodeInfo: { bootID: 'boot-1' } },
      }),
    status: (name) => JSON.parse(api.get(`${MAPS}/${name}`)?.data?.['status'] ?? '{}') as ReturnType<Harness['status']>,
    lead() {
      const leading = new AbortController();
      const work = room.lead({ signal: leading.signal, holds: () => !leading.signal.aborted });
      return async () => {
        leading.abort();
        await work;
      };
    },
    synced: async (nodes) => {
      await eventually('the caches', async () => {
        const { object } = await ask('GET', '/nodes');
        const ready = Object.values(room.checks).every((check) => check() === undefined);
        return ready && (object as { items?: object[] }).items?.length === nodes && api.watches() >= 4;
      });
    },
    async close() {
      stop.abort();
      await api.close();
    },
  };
}
