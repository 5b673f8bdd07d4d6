import { expect, test } from 'vitest';
import { waitFor } from '../lab/wait.ts';
import { API, GROUP, type HubEnv, rows } from './env.ts';

const AGGREGATED = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList';

type Discovery = { items: { metadata: { name: string }; versions: { version: string; freshness: string; resources: Resource[] }[] }[] };
type Resource = { resource: string; scope: string; verbs: string[]; subresources: { subresource: string; verbs: string[] }[] };

/** What kubectl and kube-apiserver find out about the group. */
export function discoveryTests(env: HubEnv): void {
  const direct = async () => env.hub.client(0, { token: await env.lab.serviceAccountToken('default', 'default') });

  test('kubectl api-resources lists the resources with their verbs and short names', async () => {
    const listed = rows(await env.kubectl(['api-resources', `--api-group=${GROUP}`, '-o', 'wide']));
    expect(listed).toEqual([
      expect.objectContaining({
        NAME: 'clusters',
        APIVERSION: `${GROUP}/v1`,
        NAMESPACED: 'false',
        KIND: 'InfraCluster',
        VERBS: 'get,list,watch',
      }),
      expect.objectContaining({ NAME: 'nodeoperations', SHORTNAMES: 'nodeop,nodeops', NAMESPACED: 'false', KIND: 'NodeOperation' }),
      expect.objectContaining({
        NAME: 'nodes',
        APIVERSION: `${GROUP}/v1`,
        NAMESPACED: 'false',
        KIND: 'InfraNode',
        VERBS: 'get,list,watch',
      }),
    ]);
    expect(await env.kubectl(['get', 'nodeop', '-o', 'name'])).toBe('');
    // The bare name stays with the core API.
    expect(await env.kubectl(['get', 'nodes', '-o', 'name'])).toContain('node/worker-1\n');
  });

  test('kube-apiserver has taken over aggregated discovery (v2) and calls it current', async () => {
    const answer = await env.lab.api.request('GET', '/apis', { headers: { accept: AGGREGATED } });
    expect(answer.headers['content-type']).toContain('as=APIGroupDiscoveryList');
    const group = (JSON.parse(answer.text) as Discovery).items.find(({ metadata }) => metadata.name === GROUP);
    const [version] = group?.versions ?? [];
    expect(version).toMatchObject({ version: 'v1', freshness: 'Current' });
    const nodes = version?.resources.find(({ resource }) => resource === 'nodes');
    expect(nodes).toMatchObject({ scope: 'Cluster', verbs: ['get', 'list', 'watch'] });
    expect(Object.fromEntries((nodes?.subresources ?? []).map(({ subresource, verbs }) => [subresource, verbs]))).toEqual({
      restart: ['create'],
      stop: ['create'],
      start: ['create'],
      instance: ['get'],
      log: ['get'],
    });
  });

  test('the hub answers aggregated discovery with an ETag, 304 when the client has it, and 406 for what it does not speak', async () => {
    const client = await direct();
    const first = await client.request('GET', '/apis', { headers: { accept: AGGREGATED } });
    expect(first.status).toBe(200);
    const etag = String(first.headers['etag']);
    expect(etag).toMatch(/^"[0-9A-F]{128}"$/);
    const again = await client.request('GET', '/apis', { headers: { accept: AGGREGATED, 'if-none-match': etag } });
    expect(again).toMatchObject({ status: 304, text: '' });
    const other = await client.request('GET', '/apis', { headers: { accept: AGGREGATED, 'if-none-match': '"other"' } });
    expect(other.status).toBe(200);
    const legacy = await client.request('GET', '/apis');
    expect(JSON.parse(legacy.text)).toMatchObject({ kind: 'APIGroupList', groups: [{ name: GROUP }, { name: 'proxies.clusternet.io' }] });
    const protobuf = await client.request('GET', '/apis', { headers: { accept: 'application/vnd.kubernetes.protobuf' } });
    expect(protobuf.status).toBe(406);
    expect((await client.request('POST', '/apis', { body: {} })).status).toBe(405);
  });

  test('legacy discovery goes through kube-apiserver for anybody who is authenticated', async () => {
    const kubeconfig = env.lab.kubeconfigFor({ user: 'nobody-in-particular' });
    const raw = async (path: string) => JSON.parse(await env.kubectl(['get', '--raw', path], { kubeconfig })) as Record<string, unknown>;
    expect(await raw(`/apis/${GROUP}`)).toMatchObject({ kind: 'APIGroup', name: GROUP });
    const list = (await raw(API)) as { resources: { name: string }[] };
    expect(list.resources.map(({ name }) => name)).toEqual([
      'nodes',
      'nodes/restart',
      'nodes/stop',
      'nodes/start',
      'nodes/instance',
      'nodes/log',
      'nodeoperations',
      'nodeoperations/cancel',
      'clusters',
      ...['lifecycle', 'restart', 'repair', 'kubeconfig', 'audit', 'log', 'metrics', 'certs'].map((name) => `clusters/${name}`),
    ]);
    const sockets = (await raw('/apis/proxies.clusternet.io/v1alpha1')) as { resources: { name: string }[] };
    expect(sockets.resources.map(({ name }) => name)).toEqual(['sockets', 'sockets/proxy', 'sockets/attach']);
  });

  test('kubectl explain describes both resources, fields and enumerations', async () => {
    // The aggregator fetches the OpenAPI documents of a new APIService in the background.
    const operation = await waitFor(() => env.kubectl(['explain', `nodeoperations.${GROUP}`]), {
      what: 'kube-apiserver to have the documents',
    });
    expect(operation).toMatch(/KIND: +NodeOperation\nVERSION: +v1\n/);
    expect(operation).toContain('One restart, stop or start of the machine under a node');
    const recursive = await env.kubectl(['explain', `nodeoperations.${GROUP}`, '--recursive']);
    for (const field of ['requestedBy', 'username', 'bootIDBefore', 'calls\t<[]Object>', 'history\t<[]Object>'])
      expect(recursive).toContain(field);
    expect(recursive).toContain('enum: RestartSoft, RestartHard');
    expect(await env.kubectl(['explain', `nodeoperations.${GROUP}.status.phase`])).toContain('How far the operation is.');
    expect(await env.kubectl(['explain', 'nodes.status.lastRestart', `--api-version=${GROUP}/v1`])).toContain(
      'The last restart through this API.',
    );
    const unknown = await env.lab.kubectl(['explain', 'nodes.status.colour', `--api-version=${GROUP}/v1`]);
    expect(unknown).toMatchObject({ code: 1, stderr: expect.stringContaining('field "colour" does not exist') });
  });

  test('kubectl explain finds it in the merged OpenAPI v2 document too', async () => {
    const explain = () => env.kubectl(['explain', `nodeoperations.${GROUP}`, '--output=plaintext-openapiv2']);
    // The aggregator fetches the v2 document of a new APIService in the background.
    await waitFor(async () => (await explain()).includes('NodeOperation'), {
      what: 'the merged OpenAPI v2 document to have the group',
      timeout: 60_000,
    });
    expect(await explain()).toContain('One restart, stop or start of the machine');
  });

  test('the OpenAPI v3 document may be kept by who names its hash, and is not redirected for who names another', async () => {
    const index = await env.lab.api.json<{ paths: Record<string, { serverRelativeURL: string }> }>('GET', '/openapi/v3');
    const url = index.paths[`apis/${GROUP}/v1`]?.serverRelativeURL ?? '';
    expect(url).toMatch(/\?hash=[0-9A-F]+$/);
    expect((await env.lab.api.request('GET', url)).status).toBe(200);
    // kube-apiserver adds a Cache-Control of its own to what it passes on.
    const client = await direct();
    const fresh = await client.request('GET', url);
    expect(fresh).toMatchObject({ status: 200, headers: { 'cache-control': 'public, immutable' } });
    const stale = await client.request('GET', `/openapi/v3/apis/${GROUP}/v1?hash=0000`);
    expect(stale).toMatchObject({ status: 200, headers: { 'cache-control': 'no-cache' } });
    const etag = String(fresh.headers['etag']);
    expect(await client.request('GET', `/openapi/v3/apis/${GROUP}/v1`, { headers: { 'if-none-match': etag } })).toMatchObject({
      status: 304,
    });
  });

  test('health, readiness and version of the hub', async () => {
    const nobody = await env.hub.client(0);
    for (const path of ['/healthz', '/livez', '/readyz'])
      expect(await nobody.request('GET', path)).toMatchObject({ status: 200, text: 'ok' });
    const verbose = (await nobody.request('GET', '/readyz?verbose')).text;
    for (const check of ['ping', 'shutdown', 'front-proxy-config', 'authorization', 'nodes', 'operations']) {
      expect(verbose).toContain(`[+]${check} ok\n`);
    }
    expect(verbose).toMatch(/readyz check passed\n$/);
    expect((await nobody.request('GET', '/readyz?verbose&exclude=nodes')).text).toContain('[+]nodes excluded: ok');
    expect(await nobody.request('GET', '/readyz/nodes')).toMatchObject({ status: 200, text: 'ok' });
    expect((await nobody.request('GET', '/readyz/no-such-check')).status).toBe(401);
    expect((await nobody.request('GET', '/version')).status).toBe(401);
    const version = await (await direct()).json<{ gitVersion: string; platform: string }>('GET', '/version');
    expect(version.gitVersion).toMatch(/^v\d+\.\d+\.\d+/);
  });

  test('metrics only for who may read them', async () => {
    const nobody = await env.hub.client(0);
    expect((await nobody.request('GET', '/metrics')).status).toBe(401);
    const without = await direct();
    const refused = await without.request('GET', '/metrics');
    expect(refused.status).toBe(403);
    expect(refused.text).toContain('system:serviceaccount:default:default');
    await env.kubectl(['create', 'serviceaccount', 'scraper']);
    await env.kubectl(['create', 'clusterrole', 'scraper', '--verb=get', '--non-resource-url=/metrics']);
    await env.kubectl(['create', 'clusterrolebinding', 'scraper', '--clusterrole=scraper', '--serviceaccount=default:scraper']);
    const scraper = await env.hub.client(0, { token: await env.lab.serviceAccountToken('default', 'scraper') });
    const metrics = await waitFor(
      async () => {
        const answer = await scraper.request('GET', '/metrics');
        return answer.status === 200 && answer;
      },
      { what: 'the new right to be seen by the authorizer of kube-apiserver', timeout: 20_000, interval: 500 },
    );
    expect(metrics.headers['content-type']).toContain('text/plain');
    for (const name of ['process_resident_memory_bytes', 'fairlead_hub_requests_total', 'fairlead_node_operations_active']) {
      expect(metrics.text).toMatch(new RegExp(`^${name}`, 'm'));
    }
    const codes = [...metrics.text.matchAll(/^fairlead_hub_requests_total\{.*code="(\d+)"/gm)].map((match) => match[1]);
    expect(codes).toContain('403');
  });
}
