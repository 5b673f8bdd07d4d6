import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { AGGREGATED_TYPE, discoveryDocuments, groupVersions } from '../../../src/hub/discovery/documents.ts';
import { discoveryHandler } from '../../../src/hub/discovery/handler.ts';
import { nodes, resources } from './resources.ts';
import { serve } from './serve.ts';

const documents = discoveryDocuments(resources);
const CLIENT_GO = `${AGGREGATED_TYPE},application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json`;

test('group list, group and resource list name everything once, with RBAC verbs', async () => {
  await using hub = await serve(discoveryHandler(documents));
  const groups = JSON.parse((await hub.get('/apis')).body);
  expect(groups).toMatchObject({ kind: 'APIGroupList', apiVersion: 'v1' });
  expect(groups.groups.map((group: { name: string }) => group.name)).toEqual(['infraops.michael.io', 'proxies.example.org']);
  const preferred = { groupVersion: 'infraops.michael.io/v1', version: 'v1' };
  expect(JSON.parse((await hub.get('/apis/infraops.michael.io')).body)).toEqual({
    kind: 'APIGroup',
    apiVersion: 'v1',
    name: 'infraops.michael.io',
    versions: [preferred],
    preferredVersion: preferred,
  });
  const list = JSON.parse((await hub.get('/apis/infraops.michael.io/v1/')).body);
  expect(list).toMatchObject({ kind: 'APIResourceList', apiVersion: 'v1', groupVersion: 'infraops.michael.io/v1' });
  const verbs = Object.fromEntries(list.resources.map((one: { name: string; verbs: string[] }) => [one.name, one.verbs]));
  expect(verbs).toEqual({
    nodes: ['get', 'list', 'watch'],
    'nodes/instance': ['get'],
    'nodes/restart': ['create'],
    'nodes/stop': ['create'],
    'nodes/start': ['create'],
    'nodes/log': ['get'],
    nodeoperations: ['get', 'list', 'watch'],
    'nodeoperations/cancel': ['create'],
    clusters: ['get', 'list', 'watch'],
    'clusters/lifecycle': ['create', 'delete', 'get', 'patch', 'update'],
    'clusters/restart': ['create'],
    'clusters/repair': ['create'],
    'clusters/kubeconfig': ['get'],
    'clusters/audit': ['get'],
    'clusters/log': ['get'],
    'clusters/metrics': ['get'],
    'clusters/certs': ['delete', 'get'],
  });
  expect(list.resources.find((one: { name: string }) => one.name === 'nodeoperations')).toMatchObject({
    namespaced: false,
    singularName: 'nodeoperation',
    shortNames: ['nodeop'],
    categories: ['infraops'],
  });
});

test('aggregated discovery says responseKind everywhere and answers with the media type that was asked for', async () => {
  await using hub = await serve(discoveryHandler(documents));
  const answer = await hub.get('/apis', { accept: CLIENT_GO });
  expect(answer.headers['content-type']).toBe('application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList');
  const list = JSON.parse(answer.body);
  expect(list).toMatchObject({ kind: 'APIGroupDiscoveryList', apiVersion: 'apidiscovery.k8s.io/v2' });
  const [first] = list.items;
  expect(first.metadata.name).toBe('infraops.michael.io');
  expect(first.versions[0].freshness).toBe('Current');
  let entries = 0;
  for (const resource of first.versions[0].resources) {
    for (const entry of [resource, ...(resource.subresources ?? [])]) {
      expect(entry.responseKind).toMatchObject({ group: 'infraops.michael.io', version: 'v1', kind: expect.stringMatching(/^[A-Z]/) });
      entries++;
    }
    expect(resource.scope).toBe('Cluster');
  }
  expect(entries).toBe(17);
});

test.each([
  ['application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json', 'APIGroupList'],
  [`application/json;q=1,${AGGREGATED_TYPE};q=0.5`, 'APIGroupList'],
  [`application/json;q=0.4,${AGGREGATED_TYPE};q=0.5`, 'APIGroupDiscoveryList'],
  ['application/vnd.kubernetes.protobuf,application/json', 'APIGroupList'],
  ['*/*', 'APIGroupList'],
  ['application/json;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io;profile=nopeer', 'APIGroupDiscoveryList'],
])('/apis for Accept %s is an %s', async (accept, kind) => {
  await using hub = await serve(discoveryHandler(documents));
  const answer = await hub.get('/apis', { accept });
  expect(answer.code).toBe(200);
  expect(JSON.parse(answer.body).kind).toBe(kind);
});

test('ETag is the quoted SHA-512 of the answer; the client that has it gets 304 without a body', async () => {
  await using hub = await serve(discoveryHandler(documents));
  const answer = await hub.get('/apis', { accept: AGGREGATED_TYPE });
  expect(answer.headers.etag).toBe(`"${createHash('sha512').update(answer.body).digest('hex').toUpperCase()}"`);
  expect(answer.headers.vary).toBe('Accept');
  expect(answer.headers['cache-control']).toBe('public');
  const again = await hub.get('/apis', { accept: AGGREGATED_TYPE, 'if-none-match': answer.headers.etag ?? '' });
  expect(again).toMatchObject({ code: 304, body: '' });
  expect(again.headers.etag).toBe(answer.headers.etag);
  const plain = await hub.get('/apis', { accept: 'application/json', 'if-none-match': answer.headers.etag ?? '' });
  expect(plain.code).toBe(200);
});

test('other methods get 405 with Allow, other media types 406, other paths go on', async () => {
  await using hub = await serve(discoveryHandler(documents));
  const post = await hub.get('/apis', {}, 'POST');
  expect(post).toMatchObject({ code: 405, headers: { allow: 'GET, HEAD' } });
  expect(JSON.parse(post.body)).toMatchObject({ kind: 'Status', reason: 'MethodNotAllowed' });
  for (const path of ['/apis', '/apis/infraops.michael.io', '/apis/infraops.michael.io/v1']) {
    const refused = await hub.get(path, { accept: 'application/vnd.kubernetes.protobuf' });
    expect(JSON.parse(refused.body)).toMatchObject({ kind: 'Status', reason: 'NotAcceptable', code: 406 });
  }
  expect((await hub.get('/apis/infraops.michael.io/v2')).code).toBe(404);
  expect((await hub.get('/apis/infraops.michael.io/v1/nodes')).code).toBe(404);
  const head = await hub.get('/apis', {}, 'HEAD');
  expect(head).toMatchObject({ code: 200, body: '' });
});

test('two resources of one name in a version are a mistake that is told at start', () => {
  expect(() => groupVersions([nodes, nodes])).toThrow('infraops.michael.io/v1 has two resources nodes');
});
