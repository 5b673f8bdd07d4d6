import { expect, test } from 'vitest';
import { API, GROUP, type HubEnv } from '../hub/env.ts';
import { waitFor } from '../lab/wait.ts';
import { ended, type NodeOperation } from '../support/operations.ts';

type ApiService = {
  metadata: { name: string; labels?: Record<string, string>; resourceVersion?: string; uid?: string };
  spec: { versionPriority: number };
  status?: { conditions?: { type: string; status: string; reason: string; message: string }[] };
};

const COLLECTION = '/apis/apiregistration.k8s.io/v1/apiservices';
const NAME = `v1.${GROUP}`;

/** The script of Kubernetes' own test of aggregation, as far as its steps exist here: operations are made, not deleted, through this API. */
export function conformanceTests(env: HubEnv): void {
  test('R61: the steps of the aggregator conformance test, with this group', async () => {
    const { api } = env.lab;
    const node = env.lab.node(1);
    const read = () => api.json<ApiService>('GET', `${COLLECTION}/${NAME}`);
    const available = async () => {
      const condition = (await read()).status?.conditions?.find(({ type }) => type === 'Available');
      return condition?.status === 'True' && condition;
    };

    // Create by a REST client: 201, and the answer is what was asked for.
    const count = async () => (await api.json<{ items: object[] }>('GET', `${API}/nodeoperations`)).items.length;
    const before = await count();
    const created = await api.request('POST', `${API}/nodes/${node.name}/restart`, {
      body: { kind: 'RestartOptions', apiVersion: `${GROUP}/v1` },
    });
    expect(created.status).toBe(201);
    const operation = JSON.parse(created.text) as NodeOperation;
    expect(operation).toMatchObject({ apiVersion: `${GROUP}/v1`, kind: 'NodeOperation', spec: { nodeName: node.name } });
    expect(await count()).toBe(before + 1);

    // Discovery has the resources; the dynamic client (kubectl) finds and lists them.
    const preferred = await env.kubectl(['api-resources', '-o', 'name']);
    expect(preferred).toContain(`nodeoperations.${GROUP}\n`);
    const dynamic = JSON.parse(
      await env.kubectl(['get', `nodeoperations.v1.${GROUP}`, operation.metadata.name, '-o', 'json']),
    ) as NodeOperation;
    expect(dynamic.metadata.name).toBe(operation.metadata.name);
    await ended(env.lab, operation.metadata.name);

    // The status of the APIService.
    const condition = await waitFor(available, { what: 'the APIService to be available' });
    expect(condition).toMatchObject({ reason: 'Passed', message: 'all checks passed' });
    const status = await api.json<ApiService>('GET', `${COLLECTION}/${NAME}/status`);
    expect(status.status?.conditions).toEqual((await read()).status?.conditions);

    // Patch, label, list, update of the status, replace.
    const contentType = 'application/merge-patch+json';
    const patched = await api.json<ApiService>('PATCH', `${COLLECTION}/${NAME}`, {
      contentType,
      body: { spec: { versionPriority: 400 }, metadata: { labels: { 'e2e-apiservice': 'patched' } } },
    });
    expect(patched).toMatchObject({ spec: { versionPriority: 400 }, metadata: { labels: { 'e2e-apiservice': 'patched' } } });
    const selector = encodeURIComponent('e2e-apiservice=patched');
    const listed = await api.json<{ items: ApiService[] }>('GET', `${COLLECTION}?labelSelector=${selector}`);
    expect(listed.items.map(({ metadata }) => metadata.name)).toEqual([NAME]);
    const statusUpdate = {
      status: {
        conditions: [
          ...(patched.status?.conditions ?? []),
          { type: 'StatusUpdated', status: 'True', reason: 'E2E', message: 'Set from e2e test' },
        ],
      },
    };
    const updated = await api.json<ApiService>('PATCH', `${COLLECTION}/${NAME}/status`, { contentType, body: statusUpdate });
    expect(updated.status?.conditions?.map(({ type }) => type)).toContain('StatusUpdated');
    const current = await read();
    const replaced = await api.json<ApiService>('PUT', `${COLLECTION}/${NAME}`, {
      body: { ...current, metadata: { ...current.metadata, labels: { ...current.metadata.labels, replaced: 'yes' } } },
    });
    expect(replaced.metadata.labels).toMatchObject({ replaced: 'yes' });
    await waitFor(available, { what: 'the APIService to be available after all that' });
    expect((await api.request('GET', `${API}/nodes`)).status).toBe(200);

    // Delete the collection: the group is gone. Apply it again: it is back, within 60 s.
    await api.json('DELETE', `${COLLECTION}?labelSelector=${selector}`);
    await waitFor(async () => (await api.request('GET', `${COLLECTION}/${NAME}`)).status === 404, { what: 'the APIService to be gone' });
    await waitFor(async () => (await api.request('GET', `${API}/nodes`)).status === 404, { what: 'the group to be gone' });
    const { apiVersion, kind, spec } = current as ApiService & { apiVersion: string; kind: string };
    await api.json('POST', COLLECTION, { body: { apiVersion, kind, metadata: { name: NAME }, spec } });
    await waitFor(async () => (await available()) && (await api.request('GET', `${API}/nodes`)).status === 200, {
      what: 'the group to be back',
      timeout: 60_000,
    });
  });
}
