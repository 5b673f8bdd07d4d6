import { randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { type Authority, createAuthority, issueCertificate } from '../../e2e/lab/certificates.ts';
import type { InfraNode, NodeOperation, NodeOperationStatus } from '../../src/hub/nodes/schema.ts';

export type Recorded = {
  method: string;
  path: string;
  query: URLSearchParams;
  headers: IncomingMessage['headers'];
  /** Common name of the client certificate, '' without one. */
  certificate: string;
  body: Record<string, unknown> | undefined;
};

/** An HTTPS server that plays the part of kube-apiserver and hub which the plugins see. */
export type FakeApi = {
  url: string;
  port: number;
  authority: Authority;
  /** A bearer token that is let in; certificates of `authority` are, too. */
  token: string;
  requests: Recorded[];
  /** The POST requests that asked for an operation. */
  posts(): Recorded[];
  nodes: InfraNode[];
  operations: Map<string, NodeOperation>;
  /** Gives an operation a new state and tells the watches. */
  set(name: string, status: NodeOperationStatus): void;
  /** Called with each new operation; by default it succeeds at once. */
  play: (operation: NodeOperation) => void;
  /** Answers a request instead of the server when it returns true. */
  intercept: (request: Recorded, response: ServerResponse) => boolean;
  /** How many watches are open. */
  watches(): number;
  cutWatches(): void;
  /** Forgets the past: a watch from an older resourceVersion gets 410. */
  forgetHistory(): void;
  close(): Promise<void>;
};

const API = '/apis/infraops.michael.io/v1';
type Watch = { response: ServerResponse; match: (operation: NodeOperation) => boolean };

export const node = (name: string, status: InfraNode['status'] = { ready: 'True' }, spec: InfraNode['spec'] = {}): InfraNode => ({
  apiVersion: 'infraops.michael.io/v1',
  kind: 'InfraNode',
  metadata: { name, labels: { pool: name.replace(/\d+$/, '') }, resourceVersion: '1' },
  spec,
  status,
});

export async function startFakeApi(nodes: InfraNode[] = ['n1', 'n2', 'n3', 'n4'].map((name) => node(name))): Promise<FakeApi> {
  const authority = createAuthority('fake cluster');
  const serving = issueCertificate(authority, {
    commonName: 'api',
    usages: ['serverAuth'],
    altNames: ['api.example.test', '127.0.0.1'],
  });
  const watches = new Set<Watch>();
  let version = 100;
  let oldest = 0;
  let log: { version: number; operation: NodeOperation; type: string }[] = [];

  const record = (operation: NodeOperation, type: string) => {
    version++;
    const next = { ...operation, metadata: { ...operation.metadata, resourceVersion: String(version) } };
    api.operations.set(next.metadata.name ?? '', next);
    log.push({ version, operation: next, type });
    for (const { response, match } of watches) if (match(next)) response.write(`${JSON.stringify({ type, object: next })}\n`);
    return next;
  };

  const api: FakeApi = {
    url: '',
    port: 0,
    authority,
    token: randomBytes(16).toString('hex'),
    requests: [],
    posts: () => api.requests.filter(({ method, path }) => method === 'POST' && path.startsWith(`${API}/nodes/`)),
    nodes,
    operations: new Map(),
    set: (name, status) => {
      const operation = api.operations.get(name);
      if (!operation) throw new Error(`no operation ${name}`);
      record({ ...operation, status: { ...operation.status, ...status } }, 'MODIFIED');
    },
    play: (operation) => {
      const name = operation.metadata?.name ?? '';
      setImmediate(() => api.set(name, { phase: 'Restarting', message: 'asked the cloud' }));
      setImmediate(() => api.set(name, { phase: 'Succeeded', message: 'the node is back' }));
    },
    intercept: () => false,
    watches: () => watches.size,
    cutWatches: () => {
      for (const { response } of watches) response.destroy();
      watches.clear();
    },
    forgetHistory: () => {
      version++;
      oldest = version;
      log = [];
    },
    close: () =>
      new Promise((resolve) => {
        for (const { response } of watches) response.destroy();
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };

  const server = createServer(
    { key: serving.key, cert: serving.certificate, ca: authority.certificate, requestCert: true, rejectUnauthorized: false },
    (request, response) => {
      handle(request, response).catch((error: unknown) => response.destroy(error instanceof Error ? error : undefined));
    },
  );

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<true> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const url = new URL(request.url ?? '/', 'https://api');
    const socket = request.socket as TLSSocket;
    const text = Buffer.concat(chunks).toString('utf8');
    const recorded: Recorded = {
      method: request.method ?? '',
      path: url.pathname,
      query: url.searchParams,
      headers: request.headers,
      certificate: socket.authorized ? String(socket.getPeerCertificate().subject?.CN ?? '') : '',
      body: text ? (JSON.parse(text) as Record<string, unknown>) : undefined,
    };
    api.requests.push(recorded);
    if (api.intercept(recorded, response)) return true;
    if (request.headers.authorization !== `Bearer ${api.token}` && !recorded.certificate)
      return fail(response, 401, 'Unauthorized', 'Unauthorized');
    const table = (request.headers.accept ?? '').includes('as=Table');
    const [resource, name, subresource] = url.pathname.startsWith(`${API}/`) ? url.pathname.slice(API.length + 1).split('/') : [];
    if (url.pathname === '/version') return reply(response, 200, { gitVersion: 'v1.36.3' });
    if (url.pathname === API)
      return reply(response, 200, { groupVersion: 'infraops.michael.io/v1', resources: [{ name: 'nodes' }, { name: 'nodeoperations' }] });
    if (resource === 'nodes' && !name) {
      const selector = url.searchParams.get('labelSelector')?.split('=');
      const items = api.nodes.filter((item) => !selector || item.metadata?.labels?.[selector[0] ?? ''] === selector[1]);
      return reply(
        response,
        200,
        table
          ? nodeTable(items)
          : { apiVersion: 'infraops.michael.io/v1', kind: 'InfraNodeList', metadata: { resourceVersion: String(version) }, items },
      );
    }
    if (resource === 'nodes' && name) {
      const found = api.nodes.find((item) => item.metadata?.name === name);
      if (!found) return fail(response, 404, 'NotFound', `nodes.infraops.michael.io "${name}" not found`, { name });
      if (!subresource) return reply(response, 200, table ? nodeTable([found]) : found);
      if (recorded.method === 'POST') return create(response, name, subresource, recorded.body ?? {});
    }
    if (resource === 'nodeoperations' && !name) {
      const fields = new URLSearchParams(url.searchParams.get('fieldSelector')?.replaceAll(',', '&') ?? '');
      const match = (operation: NodeOperation) =>
        (fields.get('metadata.name') ?? operation.metadata?.name) === operation.metadata?.name &&
        (fields.get('spec.nodeName') ?? operation.spec.nodeName) === operation.spec.nodeName;
      if (url.searchParams.get('watch') === 'true') return watch(response, Number(url.searchParams.get('resourceVersion') ?? 0), match);
      const items = [...api.operations.values()].filter(match);
      return reply(
        response,
        200,
        table
          ? operationTable(items)
          : { apiVersion: 'infraops.michael.io/v1', kind: 'NodeOperationList', metadata: { resourceVersion: String(version) }, items },
      );
    }
    if (resource === 'nodeoperations' && name && subresource === 'cancel') {
      api.set(name, { phase: 'Cancelled', message: 'cancelled' });
      return reply(response, 201, api.operations.get(name) ?? {});
    }
    return fail(response, 404, 'NotFound', 'the server could not find the requested resource');
  }

  function create(response: ServerResponse, name: string, subresource: string, body: Record<string, unknown>): true {
    const { requestID, dryRun } = body;
    const known = [...api.operations.values()].find(
      (operation) => requestID && operation.spec.requestID === requestID && operation.spec.nodeName === name,
    );
    if (known) return reply(response, 200, known);
    const action = subresource === 'stop' ? 'Stop' : subresource === 'start' ? 'Start' : 'Restart';
    const spec = { ...body, nodeName: name, action, requestedBy: { username: 'tester' } } as NodeOperation['spec'];
    const metadata = { name: `${subresource}-${name}-${version}` };
    const operation: NodeOperation = {
      apiVersion: 'infraops.michael.io/v1',
      kind: 'NodeOperation',
      metadata,
      spec,
      status: { phase: 'Pending' },
    };
    if (dryRun) return reply(response, 200, operation);
    const made = record(operation, 'ADDED');
    reply(response, 201, made);
    api.play(made);
    return true;
  }

  function watch(response: ServerResponse, from: number, match: (operation: NodeOperation) => boolean): true {
    if (from < oldest) return fail(response, 410, 'Expired', 'too old resource version');
    response.writeHead(200, { 'content-type': 'application/json' }).flushHeaders();
    for (const entry of log)
      if (entry.version > from && match(entry.operation))
        response.write(`${JSON.stringify({ type: entry.type, object: entry.operation })}\n`);
    const entry = { response, match };
    watches.add(entry);
    response.on('close', () => watches.delete(entry));
    return true;
  }

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  api.port = (server.address() as AddressInfo).port;
  api.url = `https://127.0.0.1:${api.port}`;
  return api;
}

/** True, for `intercept`. */
export function reply(response: ServerResponse, code: number, object: object): true {
  response.writeHead(code, { 'content-type': 'application/json' }).end(JSON.stringify(object));
  return true;
}

/** True, for `intercept`. */
export function fail(response: ServerResponse, code: number, reason: string, message: string, details?: object): true {
  reply(response, code, { kind: 'Status', apiVersion: 'v1', status: 'Failure', code, reason, message, ...(details && { details }) });
  return true;
}

/** The answer of the hub when guards refuse. */
export function refuse(response: ServerResponse, name: string, guards: { guard: string; message: string; remedy?: string }[]): void {
  const causes = guards.map(({ guard, message, remedy }) => ({
    reason: 'GuardRefused',
    field: guard,
    message: remedy ? `${message} To clear: ${remedy}` : message,
  }));
  fail(response, 409, 'Conflict', `Operation cannot be fulfilled on nodes.infraops.michael.io "${name}": guards refuse`, { name, causes });
}

function nodeTable(items: InfraNode[]): object {
  return {
    kind: 'Table',
    apiVersion: 'meta.k8s.io/v1',
    metadata: { resourceVersion: '1' },
    columnDefinitions: [
      { name: 'Name', type: 'string', priority: 0 },
      { name: 'Ready', type: 'string', priority: 0 },
      { name: 'Boot ID', type: 'string', priority: 1 },
    ],
    rows: items.map((item) => ({
      cells: [item.metadata?.name ?? '', item.status?.ready ?? '', item.status?.bootID ?? '<none>'],
      object: { metadata: item.metadata },
    })),
  };
}

function operationTable(items: NodeOperation[]): object {
  return {
    kind: 'Table',
    apiVersion: 'meta.k8s.io/v1',
    metadata: { resourceVersion: '1' },
    columnDefinitions: [
      { name: 'Name', type: 'string', priority: 0 },
      { name: 'Phase', type: 'string', priority: 0 },
    ],
    rows: items.map((item) => ({ cells: [item.metadata?.name ?? '', item.status?.phase ?? ''], object: { metadata: item.metadata } })),
  };
}
