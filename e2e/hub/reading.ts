import { get } from 'node:https';
import { gunzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { createNodes } from '../lab/nodes.ts';
import { waitFor } from '../lab/wait.ts';
import { API, GROUP, type HubEnv, rows } from './env.ts';

const NODES = `nodes.${GROUP}`;
type List = {
  kind: string;
  metadata: { resourceVersion: string; continue?: string; remainingItemCount?: number };
  items: { metadata: { name: string; resourceVersion: string } }[];
};

/** get and list by kubectl and by plain HTTPS. */
export function readingTests(env: HubEnv): void {
  const names = (text: string) => text.trim().split('\n').filter(Boolean);

  test('kubectl get prints the columns of the server, and more of them with -o wide', async () => {
    const table = rows(await env.kubectl(['get', NODES]));
    expect(table.map((row) => row['NAME'])).toEqual(env.lab.nodes.map(({ name }) => name));
    expect(Object.keys(table[0] ?? {})).toEqual(['NAME', 'STATUS', 'CLOUD', 'INSTANCE', 'ZONE', 'OPERATION', 'LAST-RESTART', 'AGE']);
    const { name, instanceID, zone } = env.lab.node(4);
    expect(table[4]).toMatchObject({ NAME: name, STATUS: 'Ready', CLOUD: 'aws', INSTANCE: instanceID, ZONE: zone, OPERATION: '' });
    expect(table[4]?.['AGE']).toMatch(/^\d+[sm]/);
    const [wide] = rows(await env.kubectl(['get', NODES, name, '-o', 'wide']));
    expect(Object.keys(wide ?? {}).slice(8)).toEqual(['REGION', 'ACCOUNT', 'RESTARTED-BY', 'BOOT-ID']);
    expect(wide).toMatchObject({ REGION: 'us-east-1', 'BOOT-ID': expect.stringMatching(/^[0-9a-f-]{36}$/) });
    expect(await env.kubectl(['get', NODES, name, '--no-headers', '-o', 'custom-columns=I:.status.machine.instanceID'])).toBe(
      `${instanceID}\n`,
    );
  });

  test('name, json, yaml and jsonpath of kubectl show the same object', async () => {
    const { name, providerID } = env.lab.node(1);
    expect(names(await env.kubectl(['get', NODES, '-o', 'name']))).toContain(`infranode.${GROUP}/${name}`);
    const json = JSON.parse(await env.kubectl(['get', NODES, name, '-o', 'json'])) as Record<string, unknown>;
    expect(json).toMatchObject({
      apiVersion: `${GROUP}/v1`,
      kind: 'InfraNode',
      metadata: { name },
      spec: { providerID },
      status: { ready: 'True' },
    });
    expect(await env.kubectl(['get', NODES, name, '-o', 'yaml'])).toContain(`providerID: ${providerID}\n`);
    expect(await env.kubectl(['get', NODES, '-o', 'jsonpath={.items[*].spec.providerID}'])).toBe(
      env.lab.nodes.map((node) => node.providerID).join(' '),
    );
    // A view passes on the version of the object behind it.
    const core = await env.lab.api.json<{ metadata: { resourceVersion: string; uid: string } }>('GET', `/api/v1/nodes/${name}`);
    expect(json['metadata']).toMatchObject({ resourceVersion: core.metadata.resourceVersion, uid: core.metadata.uid });
  });

  test('YAML, indented JSON and metadata only, as the Accept header and the query ask for it', async () => {
    const path = `${API}/nodes/${env.lab.node(1).name}`;
    const yaml = await env.lab.api.request('GET', path, { headers: { accept: 'application/yaml' } });
    expect(yaml.headers['content-type']).toBe('application/yaml');
    expect(yaml.text).toMatch(/^kind: InfraNode$/m);
    expect((await env.lab.api.request('GET', `${path}?pretty=true`)).text).toContain('{\n  "apiVersion"');
    const accept = 'application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io';
    const partial = await env.lab.api.json<List & { items: Record<string, unknown>[] }>('GET', `${API}/nodes`, { headers: { accept } });
    expect(partial.kind).toBe('PartialObjectMetadataList');
    expect(partial.items).toHaveLength(env.lab.nodes.length);
    expect(partial.items.some((item) => 'spec' in item || 'status' in item)).toBe(false);
    expect((await env.lab.api.request('GET', path, { headers: { accept: 'image/png' } })).status).toBe(406);
  });

  test("kubectl get --subresource=instance shows the cloud's own word", async () => {
    const { name, instanceID } = env.lab.node(2);
    const [row] = rows(await env.kubectl(['get', NODES, name, '--subresource=instance']));
    expect(row).toMatchObject({ NAME: name, INSTANCE: instanceID, POWER: 'Running', TYPE: 'm5.xlarge' });
    const object = JSON.parse(await env.kubectl(['get', NODES, name, '--subresource=instance', '-o', 'json'])) as {
      status: { addresses: unknown[] };
    };
    expect(object).toMatchObject({ kind: 'NodeInstance', machine: { cloud: 'aws', instanceID }, status: { providerState: 'running' } });
    expect(object.status.addresses).toContainEqual({ type: 'InternalIP', address: expect.stringMatching(/^10\./) });
    const missing = await env.lab.kubectl(['get', NODES, 'no-such-node', '--subresource=instance']);
    expect(missing).toMatchObject({ code: 1, stderr: `Error from server (NotFound): ${NODES} "no-such-node" not found\n` });
  });

  test('label and field selectors', async () => {
    const zoneB = env.lab.nodes.filter(({ zone }) => zone === 'us-east-1b').map(({ name }) => `infranode.${GROUP}/${name}`);
    expect(names(await env.kubectl(['get', NODES, '-l', 'topology.kubernetes.io/zone=us-east-1b', '-o', 'name']))).toEqual(zoneB);
    expect(names(await env.kubectl(['get', NODES, '-l', '!node-role.kubernetes.io/control-plane', '-o', 'name']))).toHaveLength(4);
    expect(names(await env.kubectl(['get', NODES, '--field-selector=metadata.name=worker-3', '-o', 'name']))).toEqual([
      `infranode.${GROUP}/worker-3`,
    ]);
    expect(names(await env.kubectl(['get', NODES, '--field-selector=metadata.name!=worker-3', '-o', 'name']))).toHaveLength(4);
    expect(names(await env.kubectl(['get', NODES, '--field-selector=spec.unschedulable=true', '-o', 'name']))).toEqual([]);
  });

  test('a field that cannot be selected by is refused once, not in a message within a message', async () => {
    const refused = await env.lab.kubectl(['get', NODES, '--field-selector=spec.colour=red']);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/field label not supported: spec\.colour\n$/);
    expect(refused.stderr.match(/Unable to find/g)).toHaveLength(1);
    const labels = await env.lab.api.request('GET', `${API}/nodes?labelSelector=${encodeURIComponent('a in (')}`);
    expect(labels.status).toBe(400);
  });

  test('limit and continue page through one state of the collection', async () => {
    expect(names(await env.kubectl(['get', NODES, '--chunk-size=2', '-o', 'name']))).toHaveLength(5);
    const first = await env.lab.api.json<List>('GET', `${API}/nodes?limit=2`);
    expect(first.items.map(({ metadata }) => metadata.name)).toEqual(['control-plane-1', 'worker-1']);
    expect(first.metadata.remainingItemCount).toBe(3);
    const token = encodeURIComponent(first.metadata.continue ?? '');
    const second = await env.lab.api.json<List>('GET', `${API}/nodes?limit=2&continue=${token}`);
    expect(second.items.map(({ metadata }) => metadata.name)).toEqual(['worker-2', 'worker-3']);
    expect(second.metadata.resourceVersion).toBe(first.metadata.resourceVersion);
    for (const query of ['continue=nonsense', 'limit=many', 'limit=1&limit=2']) {
      expect(await env.lab.api.request('GET', `${API}/nodes?${query}`), query).toMatchObject({ status: 400 });
    }
  });

  test('a page asked for too late is 410 Expired', async () => {
    const first = await env.lab.api.json<List>('GET', `${API}/nodes?limit=1`);
    const path = `${API}/nodes?limit=1&continue=${encodeURIComponent(first.metadata.continue ?? '')}`;
    let turn = 0;
    // kube-apiserver of this lab compacts etcd every two seconds, when there is something new.
    const answer = await waitFor(
      async () => {
        await env.kubectl(['annotate', 'namespace', 'default', '--overwrite', `turn=${++turn}`]);
        const late = await env.lab.api.request('GET', path);
        return late.status !== 200 && late;
      },
      { what: 'etcd to be compacted', timeout: 60_000, interval: 300 },
    );
    expect(answer.status).toBe(410);
    expect(JSON.parse(answer.text)).toMatchObject({ kind: 'Status', reason: 'Expired', code: 410 });
  });

  test('a list is as new as the resourceVersion that is asked for', async () => {
    const { metadata } = await env.lab.api.json<List>('GET', '/api/v1/nodes?limit=1');
    const exact = await env.lab.api.json<List>(
      'GET',
      `${API}/nodes?resourceVersion=${metadata.resourceVersion}&resourceVersionMatch=NotOlderThan`,
    );
    expect(BigInt(exact.metadata.resourceVersion)).toBeGreaterThanOrEqual(BigInt(metadata.resourceVersion));
    expect(exact.items).toHaveLength(5);
    expect((await env.lab.api.json<List>('GET', `${API}/nodes?resourceVersion=0`)).items).toHaveLength(5);
    const wrong = await env.lab.api.request('GET', `${API}/nodes?resourceVersionMatch=Exact`);
    expect(wrong.status).toBe(422);
    expect(JSON.parse(wrong.text)).toMatchObject({
      reason: 'Invalid',
      message: expect.stringContaining('resourceVersionMatch is forbidden'),
    });
  });

  test('a long list is compressed for who takes it', async () => {
    const bulk = Object.fromEntries(
      Array.from({ length: 500 }, (_, index) => [`label-${index}.example.org/with-a-long-name`, `${index}`.padStart(60, '0')]),
    );
    const specs = ['bulk-1', 'bulk-2', 'bulk-3', 'bulk-4'].map((name) => ({ name, labels: bulk, providerID: `kwok://${name}` }));
    const made = await createNodes(env.lab.api, specs, async () => []);
    try {
      const { certificate, key } = env.lab.clientCertificate({ user: 'reader', groups: ['system:masters'] });
      const fetchList = () =>
        new Promise<{ encoding: string | undefined; body: Buffer }>((resolve, reject) => {
          const headers = { accept: 'application/json', 'accept-encoding': 'gzip' };
          get(
            new URL(`${API}/nodes`, env.lab.apiServerURL),
            { ca: env.lab.ca, cert: certificate, key, headers, agent: false },
            (answer) => {
              const chunks: Buffer[] = [];
              answer.on('data', (chunk: Buffer) => chunks.push(chunk));
              answer.once('error', reject);
              answer.once('end', () => resolve({ encoding: answer.headers['content-encoding'], body: Buffer.concat(chunks) }));
            },
          ).once('error', reject);
        });
      const answer = await waitFor(
        async () => {
          const got = await fetchList();
          return got.encoding === 'gzip' && got;
        },
        { what: 'the hub to know the new nodes' },
      );
      const list = JSON.parse(gunzipSync(answer.body).toString('utf8')) as List;
      expect(list.items.length).toBeGreaterThan(5);
      expect(answer.body.length * 5).toBeLessThan(JSON.stringify(list).length);
    } finally {
      for (const { name } of made) await env.lab.api.request('DELETE', `/api/v1/nodes/${name}`);
    }
    await waitFor(async () => (await env.lab.api.json<List>('GET', `${API}/nodes`)).items.length === 5, {
      what: 'the nodes to be gone again',
    });
  });

  test('other ConfigMaps of the namespace are no operations: 404, not an internal error', async () => {
    await env.lab.api.json('POST', `/api/v1/namespaces/${env.hub.namespace}/configmaps`, {
      body: { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'somebody-elses' }, data: { spec: '{}' } },
    });
    for (const name of ['somebody-elses', 'kube-root-ca.crt', 'fairlead-node-operations', 'no-such-operation', 'Not%20A%20Name']) {
      expect(await env.lab.api.request('GET', `${API}/nodeoperations/${name}`), name).toMatchObject({ status: 404 });
      expect(await env.lab.api.request('POST', `${API}/nodeoperations/${name}/cancel`), name).toMatchObject({ status: 404 });
    }
    expect(await env.kubectl(['get', 'nodeoperations', '-o', 'name'])).not.toContain('somebody-elses');
  });
}
