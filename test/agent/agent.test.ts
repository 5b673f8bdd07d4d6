import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { expect, test, vi } from 'vitest';
import { stringify } from 'yaml';
import { type Agent, startAgent } from '../../src/agent/agent.ts';
import { parseOptions } from '../../src/agent/options.ts';
import { CLUSTERS_API, registrationName } from '../../src/kube/clusternet.ts';
import { makeCa, makeServer } from '../hub/auth/pki.ts';
import { cleanUp } from '../support/clean-up.ts';
import { type KubeApi, kubeApi } from '../support/kube-api.ts';
import { type Approver, approver, BOOTSTRAP, REQUESTS } from './support/approver.ts';
import { type SocketServer, socketServer } from './support/socket-server.ts';

const { after } = cleanUp();
const LEASE = '/apis/coordination.k8s.io/v1/namespaces/clusternet-system/leases/clusternet-agent';

type World = {
  parent: KubeApi;
  child: KubeApi;
  hub: Approver;
  sockets: SocketServer;
  folder: string;
  start(...flags: string[]): Promise<{ agent: Agent; log: () => string }>;
};

/** A parent and a child with TLS, and a hub's sockets, in this process; the agent is the real one, by its flags. */
async function world(): Promise<World> {
  const authority = makeCa('parent');
  const pair = makeServer(authority);
  const parent = await kubeApi({ tls: { cert: pair.cert, key: pair.key, ca: authority.cert } });
  const [child, sockets] = [await kubeApi({ tls: { cert: pair.cert, key: pair.key, ca: authority.cert } }), await socketServer()];
  const folder = await mkdtemp(join(tmpdir(), 'agent-'));
  after(async () => {
    await Promise.all([parent.close(), child.close(), sockets.close()]);
    await rm(folder, { recursive: true, force: true });
  });
  const hub = approver(parent);
  sockets.refuse = ({ headers }) => (hub.tokens.has(String(headers.authorization).slice(7)) ? undefined : { code: 401, body: '' });
  const files = {
    ca: join(folder, 'ca'),
    direct: join(folder, 'direct'),
    token: join(folder, 'token'),
    kubeconfig: join(folder, 'kubeconfig'),
  };
  await writeFile(files.ca, authority.cert);
  await writeFile(files.direct, sockets.ca);
  await writeFile(files.token, BOOTSTRAP);
  await writeFile(
    files.kubeconfig,
    stringify({
      'current-context': 'c',
      contexts: [{ name: 'c', context: { cluster: 'c', user: 'u' } }],
      clusters: [
        { name: 'c', cluster: { server: child.server, 'certificate-authority-data': Buffer.from(authority.cert).toString('base64') } },
      ],
      users: [{ name: 'u', user: { token: 'child' } }],
    }),
  );
  return {
    parent,
    child,
    hub,
    sockets,
    folder,
    async start(...flags) {
      const args = [
        `--parent-url=${parent.server}`,
        `--parent-ca-file=${files.ca}`,
        `--direct-url=${sockets.url}`,
        `--direct-ca-file=${files.direct}`,
        `--bootstrap-token-file=${files.token}`,
        '--cluster-name=edge',
        '--shutdown-timeout=2s',
        ...flags,
      ];
      const options = parseOptions(args, {});
      if ('print' in options) throw new Error('prints');
      let written = '';
      const sink = {
        write(text: string) {
          written += text;
        },
      };
      const agent = await startAgent(options, pino({ level: 'trace', base: null }, sink));
      let stopped = false;
      const stop = async () => {
        if (!stopped) await agent.stop();
        stopped = true;
      };
      after(stop);
      return { agent: { ...agent, stop }, log: () => written };
    },
  };
}
const inCluster = ({ folder }: World) => `--kubeconfig=${join(folder, 'kubeconfig')}`;

/** An answer of the agent's own API, through a tunnel as the hub asks it. */
function throughTunnel({ tunnels }: SocketServer, path: string): Promise<{ code: number; body: string }> {
  return new Promise((resolve, reject) => {
    const stream = tunnels[0]?.tunnel.session.request({ ':path': path, ':authority': 'agent', ':scheme': 'https' });
    if (!stream) return reject(new Error('no tunnel'));
    let [code, body] = [0, ''];
    stream.on('response', (headers) => {
      code = headers[':status'] ?? 0;
    });
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      body += chunk;
    });
    stream.on('end', () => resolve({ code, body })).on('error', reject);
  });
}
function health(port: number | undefined, path: string): Promise<number> {
  return new Promise((resolve, reject) => {
    request({ host: '127.0.0.1', port, path }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    })
      .on('error', reject)
      .end();
  });
}
async function freePort(): Promise<number> {
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
  const address = taken.address();
  await new Promise((resolve) => taken.close(resolve));
  return typeof address === 'object' && address !== null ? address.port : 0;
}
const connected = ({ sockets }: World) =>
  vi.waitFor(() => expect(sockets.tunnels.map(({ replica }) => replica).sort()).toEqual(['a', 'b']), { timeout: 30_000 });

test('from the bootstrap token to tunnels, heartbeat and its own API; at the end the Lease is free', async () => {
  const here = await world();
  const { parent, child, hub, sockets, start } = here;
  parent.put(`${CLUSTERS_API}/namespaces/clusternet-abcde/managedclusters`, { metadata: { name: 'edge' }, spec: {} });
  const { agent, log } = await start(inCluster(here));
  await connected(here);
  const id = child.get(LEASE)?.metadata.uid ?? '';
  expect(parent.get(`${REQUESTS}/${registrationName(id)}`)).toBeDefined();
  expect(new Set(sockets.tunnels.map(({ token }) => token))).toEqual(new Set(hub.issued));
  expect(sockets.asked[0]?.path).toContain(`/sockets/${id}/attach`);
  await vi.waitFor(() =>
    expect(parent.get(`${CLUSTERS_API}/namespaces/clusternet-abcde/managedclusters/edge`)?.status).toMatchObject({ useSocket: true }),
  );
  expect(await throughTunnel(sockets, '/readyz')).toEqual({ code: 200, body: 'ok' });
  expect((await throughTunnel(sockets, '/metrics')).body).toMatch(/^fairlead_agent_tunnels 2$/m);
  expect((await throughTunnel(sockets, '/version')).code).toBe(200);
  expect(await throughTunnel(sockets, '/nothing?x=1')).toMatchObject({ code: 404 });
  // What --v=2 and --v=4 show.
  const headers = { ':path': '/version?hidden=1', ':authority': 'direct', ':scheme': 'https', 'fairlead-user': 'jane' };
  sockets.tunnels[0]?.tunnel.session.request(headers).resume();
  await vi.waitFor(() => expect(log()).toMatch(/"method":"GET","target":"direct","path":"\/version","user":"jane","code":\d+/));
  expect(log()).toMatch(/"target":"the cluster's API server","address":"127.0.0.1"/);
  expect(log()).not.toContain('hidden');
  await agent.stop();
  expect(child.get(LEASE)?.spec).toMatchObject({ holderIdentity: '' });
  await vi.waitFor(() => expect(sockets.tunnels).toEqual([]));
  for (const secret of [BOOTSTRAP, ...hub.issued]) expect(log()).not.toContain(secret);
});

test('of two replicas one stands for the cluster; when it stops the other goes on with the same credential', async () => {
  const here = await world();
  const { hub, sockets, start } = here;
  const first = await start(inCluster(here));
  await connected(here);
  const second = await start(inCluster(here));
  const instances = () => new Set(sockets.asked.map(({ headers }) => headers['fairlead-instance']));
  expect(instances().size).toBe(1);
  await first.agent.stop();
  await vi.waitFor(() => expect(instances().size).toBe(2), { timeout: 30_000 });
  await connected(here);
  expect(hub.issued).toHaveLength(1);
  expect(second.log()).toContain('standing for this cluster');
});

test('tunnels stay while the API server of the child is away', async () => {
  const here = await world();
  const { child, sockets, start } = here;
  const { log } = await start(inCluster(here));
  await connected(here);
  const before = [...sockets.tunnels];
  const back = child.fault(() => 'refuse');
  // Longer than a Lease can go without renewal: the agent leads no more.
  await vi.waitFor(
    () => expect(child.seen.slice(-200).filter(({ method, path }) => method === 'GET' && path === LEASE).length).toBeGreaterThan(8),
    {
      timeout: 45_000,
      interval: 200,
    },
  );
  expect(sockets.tunnels).toEqual(before);
  back();
  await vi.waitFor(() => expect(child.get(LEASE)?.spec?.['holderIdentity']).not.toBe(''), { timeout: 30_000 });
  expect(sockets.tunnels).toEqual(before);
  expect(log().match(/standing for this cluster/g)).toHaveLength(1);
});

test('a bare machine keeps its state in files, says that it has no cluster, and needs no token the next time', async () => {
  const here = await world();
  const { parent, hub, folder, sockets, start } = here;
  const managed = `${CLUSTERS_API}/namespaces/clusternet-abcde/managedclusters`;
  parent.put(managed, { metadata: { name: 'edge' }, spec: {} });
  const bare = [
    '--bare',
    `--state-dir=${join(folder, 'state')}`,
    `--kubeconfig=${join(folder, 'not-yet')}`,
    `--socket=${join(folder, 'agent.sock')}`,
  ];
  const first = await start(...bare);
  await connected(here);
  await vi.waitFor(() => expect(JSON.stringify(parent.get(`${managed}/edge`)?.status)).toContain('NoCluster'));
  await first.agent.stop();
  await rm(join(folder, 'token'));
  await start(...bare);
  await connected(here);
  expect(hub.issued).toHaveLength(1);
  expect(new Set(sockets.asked.map(({ path }) => path)).size).toBe(1);
});

test('health is served on its port: not ready while nobody lets the cluster in', async () => {
  const here = await world();
  const { hub, start } = here;
  hub.policy = { result: 'Pending', message: 'approve it' };
  const { agent, log } = await start(inCluster(here), `--health-port=${await freePort()}`);
  await vi.waitFor(() => expect(log()).toContain('approve it'), { timeout: 20_000 });
  expect([await health(agent.healthPort, '/livez'), await health(agent.healthPort, '/readyz')]).toEqual([200, 500]);
  hub.policy = { result: 'Approved' };
  hub.look();
  await connected(here);
  expect(await health(agent.healthPort, '/readyz')).toBe(200);
  expect(await health(agent.healthPort, '/anything')).toBe(404);
});

test('a kubeconfig that turns verification off is refused', async () => {
  const here = await world();
  const file = join(here.folder, 'kubeconfig');
  await writeFile(
    file,
    stringify({
      'current-context': 'c',
      contexts: [{ name: 'c', context: { cluster: 'c', user: 'u' } }],
      clusters: [{ name: 'c', cluster: { server: 'https://127.0.0.1:1', 'insecure-skip-tls-verify': true } }],
      users: [{ name: 'u', user: {} }],
    }),
  );
  await expect(here.start(`--kubeconfig=${file}`)).rejects.toThrow('insecure-skip-tls-verify');
});

test('a --target-ca-file that cannot be read, or holds no certificate, is said at the start with the flag', async () => {
  const here = await world();
  const file = join(here.folder, 'targets');
  await expect(here.start(inCluster(here), `--target-ca-file=${file}`)).rejects.toMatchObject({
    name: 'FlagError',
    message: expect.stringMatching(new RegExp(`^--target-ca-file ${file}: ENOENT`)),
  });
  await writeFile(file, 'no certificate');
  await expect(here.start(inCluster(here), `--target-ca-file=${file}`)).rejects.toThrow(`--target-ca-file ${file}: it does not begin with`);
});
