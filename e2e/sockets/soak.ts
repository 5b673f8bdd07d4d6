import { get } from 'node:http';
import type { ApiClient } from '../lab/api-client.ts';
import { freePort } from '../lab/ports.ts';
import { pause } from '../lab/wait.ts';
import type { SocketsEnv } from './env.ts';
import { kubectlWith } from './env.ts';
import { type Usage, usageOf } from './fault-tools.ts';

/** What was seen of one process: at the first look after a tenth of the time, and at the end. */
export type Watched = {
  name: string;
  before: Usage;
  after: Usage;
  /** By the lowest resident memory in the first and the last quarter: what is collected in between is no growth. */
  grownMiB: number;
  /** The worst p99 of the looks, in milliseconds; each look starts it anew. A hub's contains the 10 ms of its sampler. */
  lagMs: number;
};

export type Soak = { requests: Record<string, number>; failed: string[]; processes: Watched[] };

const LARGE = '/api/v1/namespaces/soak/configmaps';
const LARGE_OBJECTS = 10;
const LARGE_BYTES = 200_000;

type Kind = { name: string; everyMs: number; run: () => Promise<void> };

/** Mixed load through the parent and the tunnel for so long: small reads, lists of 2 MB, writes, watches, exec by both protocols and logs. */
export async function soak(
  env: SocketsEnv,
  { user, seconds, healthPort }: { user: string; seconds: number; healthPort: number },
): Promise<Soak> {
  const dev = env.parent.clientFor({ user });
  const [proxied, kubectl] = [await env.agent.proxyPath(), kubectlWith(env.parent, await env.agent.kubeconfigFor({ user }))];
  await env.child.lab.api.json('POST', '/api/v1/namespaces', { body: { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'soak' } } });
  for (let index = 0; index < LARGE_OBJECTS; index++) {
    const body = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: `large-${index}` }, data: { text: 'x'.repeat(LARGE_BYTES) } };
    await env.child.lab.api.json('POST', LARGE, { body });
  }
  const asked = asking(dev, proxied);
  let serial = 0;
  const exec = (websockets: string) => async () => {
    const told = `soak-${++serial}`;
    const { code, stdout, stderr } = await kubectl.run(['exec', env.child.pod, '--', 'echo', told], {
      env: { KUBECTL_REMOTE_COMMAND_WEBSOCKETS: websockets },
    });
    if (code !== 0 || stdout !== `${told}\n`) throw new Error(`${code} ${stdout}${stderr}`);
  };
  const small = async () => void (await asked('GET', '/version'));
  const kinds: Kind[] = [
    { name: 'version', everyMs: 10, run: small },
    { name: 'version', everyMs: 10, run: small },
    {
      name: 'list of 2 MB',
      everyMs: 500,
      run: async () => {
        const { length } = await asked('GET', LARGE);
        if (length < LARGE_OBJECTS * LARGE_BYTES) throw new Error(`the list has only ${length} bytes`);
      },
    },
    {
      name: 'write',
      everyMs: 200,
      run: async () => {
        const name = `written-${++serial}`;
        const body = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data: { text: 'y'.repeat(50_000) } };
        await asked('POST', '/api/v1/namespaces/default/configmaps', body);
        await asked('DELETE', `/api/v1/namespaces/default/configmaps/${name}`);
      },
    },
    {
      name: 'watch',
      everyMs: 50,
      run: async () => void (await asked('GET', '/api/v1/namespaces/default/configmaps?watch=true&timeoutSeconds=1')),
    },
    { name: 'exec over WebSocket', everyMs: 2_000, run: exec('true') },
    { name: 'exec over SPDY', everyMs: 2_000, run: exec('false') },
    {
      name: 'logs',
      everyMs: 2_000,
      run: async () => {
        const line = `soak-${++serial}`;
        env.child.log(line);
        const text = await kubectl.ok(['logs', env.child.pod, '--tail=20']);
        if (!text.includes(line)) throw new Error(`the log has no ${line}`);
      },
    },
  ];

  const result: Soak = { requests: {}, failed: [], processes: [] };
  const end = performance.now() + seconds * 1_000;
  const loop = async ({ name, everyMs, run }: Kind) => {
    while (performance.now() < end && result.failed.length < 100) {
      try {
        await run();
        result.requests[name] = (result.requests[name] ?? 0) + 1;
      } catch (error) {
        result.failed.push(`${name}: ${error instanceof Error ? error.message.slice(0, 300) : String(error)}`);
      }
      await pause(everyMs);
    }
  };
  const observers = await observersOf(env, healthPort);
  await Promise.all([...kinds.map(loop), ...observers.map(({ observe }) => observe(end, seconds))]);
  result.processes = observers.map(({ watched }) => watched());
  return result;
}

function asking(client: ApiClient, proxied: string) {
  return async (method: string, path: string, body?: object): Promise<string> => {
    const { status, text } = await client.request(method, proxied + path, body ? { body } : {});
    if (status !== 200 && status !== 201) throw new Error(`${method} ${path}: ${status} ${text.slice(0, 200)}`);
    return text;
  };
}

async function observersOf(env: SocketsEnv, healthPort: number) {
  const { hub, agent } = env;
  const token = await scraperToken(env);
  const ofHub = await Promise.all(
    hub.replicas.map(async ({ index, process }) => {
      const client = await hub.client(index, { token });
      return observer(`hub ${index}`, process?.pid ?? 0, async () => (await client.request('GET', '/metrics')).text);
    }),
  );
  return [...ofHub, observer('agent', agent.pid(), () => plain(`http://127.0.0.1:${healthPort}/metrics`))];
}

/** A ServiceAccount of the parent that may read metrics. */
async function scraperToken({ parent }: SocketsEnv): Promise<string> {
  for (const args of [
    ['serviceaccount', 'scraper'],
    ['clusterrole', 'scraper', '--verb=get', '--non-resource-url=/metrics'],
    ['clusterrolebinding', 'scraper', '--clusterrole=scraper', '--serviceaccount=default:scraper'],
  ]) {
    const { code, stderr } = await parent.kubectl(['create', ...args]);
    if (code !== 0) throw new Error(stderr);
  }
  return await parent.serviceAccountToken('default', 'scraper', 24 * 3600);
}

function plain(url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = get(url, { agent: false, timeout: 10_000 }, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => {
        text += chunk.toString();
      });
      response.once('end', () => resolve(text));
      response.once('error', reject);
    });
    asked.once('timeout', () => asked.destroy(new Error(`${url}: no answer`)));
    asked.once('error', reject);
  });
}

function observer(name: string, pid: number, metrics: () => Promise<string>) {
  const looks: Usage[] = [];
  let lagMs: number | undefined;
  return {
    async observe(end: number, seconds: number): Promise<void> {
      // What is made once, when the first requests come, is no growth.
      await pause(seconds * 100);
      await metrics();
      while (performance.now() < end) {
        looks.push(usageOf(pid));
        await pause(Math.min(1_000, seconds * 20));
        const lag = /^nodejs_eventloop_lag_p99_seconds (\S+)$/m.exec(await metrics());
        // Right after it was given a right, a scraper may still be refused; the last looks count.
        if (lag) lagMs = Math.max(lagMs ?? 0, Number(lag[1]) * 1_000);
      }
    },
    watched(): Watched {
      const quarter = Math.ceil(looks.length / 4);
      const least = (some: readonly Usage[]) => Math.min(...some.map(({ residentMiB }) => residentMiB));
      const [before, after] = [looks[0], looks.at(-1)];
      if (!before || !after || lagMs === undefined) throw new Error(`nothing was seen of ${name}`);
      return { name, before, after, grownMiB: least(looks.slice(-quarter)) - least(looks.slice(0, quarter)), lagMs };
    },
  };
}

/** A port for the agent's metrics. */
export const metricsPort = (): Promise<number> => freePort();
