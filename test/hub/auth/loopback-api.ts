import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { KubeConfig } from '@kubernetes/client-node';
import { type KubeClient, kubeClient } from '../../../src/kube/client.ts';
import { makeCa, makeServer } from './pki.ts';

export type StoredObject = {
  metadata: { name: string; resourceVersion?: string; [key: string]: unknown };
  spec?: Record<string, unknown>;
  data?: Record<string, string>;
  [key: string]: unknown;
};
type Answer = { code: number; body: string; type?: string };

/** An HTTPS server on loopback with the few calls of the Kubernetes API that the hub's security needs, and with faults. */
export type LoopbackApi = {
  client: KubeClient;
  /** Number of requests so far whose path contains the text. */
  count(path: string): number;
  get(collection: string, name: string): StoredObject | undefined;
  put(collection: string, object: StoredObject): void;
  delete(collection: string, name: string): void;
  /** What a review answers: its `status`. */
  onReview(answer: (kind: string, spec: Record<string, unknown>) => object): void;
  /** Replaces the answer for each path that contains the text; `'silence'` never answers. undefined takes the fault away. */
  fault(path: string, answer: Answer | 'silence' | 'cut' | undefined): void;
  close(): Promise<void>;
};

async function read(request: IncomingMessage): Promise<Record<string, unknown>> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return chunks.length === 0 ? {} : (JSON.parse(Buffer.concat(chunks).toString()) as Record<string, unknown>);
}

function mergePatch(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const result: Record<string, unknown> = { ...(target as Record<string, unknown> | undefined) };
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = mergePatch(result[key], value);
  }
  return result;
}

export async function loopbackApi(): Promise<LoopbackApi> {
  const collections = new Map<string, Map<string, StoredObject>>();
  const watchers = new Set<{ collection: string; response: ServerResponse }>();
  const faults = new Map<string, Answer | 'silence' | 'cut'>();
  const seen: string[] = [];
  let version = 100;
  let review: (kind: string, spec: Record<string, unknown>) => object = () => ({});

  const objects = (collection: string) => {
    const found = collections.get(collection) ?? new Map<string, StoredObject>();
    collections.set(collection, found);
    return found;
  };
  function tell(collection: string, type: string, object: StoredObject): void {
    for (const watcher of watchers) {
      if (watcher.collection === collection) watcher.response.write(`${JSON.stringify({ type, object })}\n`);
    }
  }
  function put(collection: string, object: StoredObject): StoredObject {
    const type = objects(collection).has(object.metadata.name) ? 'MODIFIED' : 'ADDED';
    const stored = { ...object, metadata: { ...object.metadata, resourceVersion: String(++version) } };
    objects(collection).set(object.metadata.name, stored);
    tell(collection, type, stored);
    return stored;
  }
  function remove(collection: string, name: string): void {
    const object = objects(collection).get(name);
    if (!object) return;
    objects(collection).delete(name);
    tell(collection, 'DELETED', { ...object, metadata: { ...object.metadata, resourceVersion: String(++version) } });
  }
  const send = (response: ServerResponse, code: number, body: object) =>
    response.writeHead(code, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  const refuse = (response: ServerResponse, code: number, reason: string) =>
    send(response, code, { kind: 'Status', apiVersion: 'v1', status: 'Failure', reason, message: reason, code });

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://loopback');
    const path = url.pathname;
    seen.push(`${request.method} ${path}`);
    const fault = [...faults].find(([text]) => path.includes(text))?.[1];
    if (fault === 'silence') return;
    if (fault === 'cut') return void request.socket.destroy();
    if (fault) return void response.writeHead(fault.code, { 'content-type': fault.type ?? 'application/json' }).end(fault.body);
    const body = await read(request);
    if (path.endsWith('reviews')) {
      const status = review(String(body['kind']), body['spec'] as Record<string, unknown>);
      return void send(response, 201, { apiVersion: body['apiVersion'], kind: body['kind'], status });
    }
    if (url.searchParams.get('watch') === 'true') {
      response.writeHead(200, { 'content-type': 'application/json' }).flushHeaders();
      const watcher = { collection: path, response };
      watchers.add(watcher);
      response.once('close', () => watchers.delete(watcher));
      return;
    }
    const [, parent = '', last = ''] = /^(.*)\/([^/]+)$/.exec(path) ?? [];
    const isCollection = collections.has(path) || /s$/.test(last);
    if (request.method === 'GET' && isCollection) {
      const only = url.searchParams.get('fieldSelector')?.replace('metadata.name=', '');
      const items = [...objects(path).values()].filter((item) => only === undefined || item.metadata.name === only);
      return void send(response, 200, { kind: 'List', apiVersion: 'v1', metadata: { resourceVersion: String(version) }, items });
    }
    if (request.method === 'POST') {
      const object = body as StoredObject;
      if (objects(path).has(object.metadata.name)) return void refuse(response, 409, 'AlreadyExists');
      return void send(response, 201, put(path, object));
    }
    const present = objects(parent).get(last);
    if (!present) return void refuse(response, 404, 'NotFound');
    if (request.method === 'GET') return void send(response, 200, present);
    const wanted = (body['metadata'] as { resourceVersion?: string } | undefined)?.resourceVersion;
    if (wanted !== undefined && wanted !== present.metadata.resourceVersion) return void refuse(response, 409, 'Conflict');
    send(response, 200, put(parent, mergePatch(present, body) as StoredObject));
  }

  const ca = makeCa('loopback-api');
  const server = createServer(makeServer(ca), (request, response) => {
    handle(request, response).catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const config = new KubeConfig();
  const { port } = server.address() as AddressInfo;
  config.loadFromClusterAndUser(
    { name: 'loopback', server: `https://127.0.0.1:${port}`, skipTLSVerify: false, caData: Buffer.from(ca.cert).toString('base64') },
    { name: 'hub' },
  );
  const client = kubeClient(config);
  return {
    client,
    count: (path) => seen.filter((line) => line.includes(path)).length,
    get: (collection, name) => objects(collection).get(name),
    put,
    delete: remove,
    onReview(answer) {
      review = answer;
    },
    fault(path, answer) {
      if (answer === undefined) faults.delete(path);
      else faults.set(path, answer);
    },
    async close() {
      client.close();
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}
