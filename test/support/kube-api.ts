import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { KubeConfig } from '@kubernetes/client-node';
import { type KubeClient, kubeClient } from '../../src/kube/client.ts';
import { mergePatch, type Place, parsePlace, read, recordManager, type Stored, statusOf } from './kube-objects.ts';
import { selects } from './selectors.ts';

export type { Stored } from './kube-objects.ts';

/** One request as the server saw it. */
export type Seen = { method: string; path: string; query: URLSearchParams; headers: IncomingMessage['headers']; body: unknown };

/**
 * What happens to a request instead of, or beside, its ordinary answer. `refuse`: not reached. `lose`: carried out, and the connection is cut before
 * the answer. `silence`: not carried out and never answered. `delay`: carried out at once and answered after so many milliseconds.
 */
export type Fault =
  | { code: number; body?: object | string; headers?: Record<string, string> }
  | 'refuse'
  | 'lose'
  | 'silence'
  | { delay: number };

export type KubeApi = {
  server: string;
  config: KubeConfig;
  client: KubeClient;
  /** All requests so far, oldest first. */
  seen: Seen[];
  /** Requests of the method whose path contains the text. */
  count(method: string, path: string): number;
  /** By full path, for example `/api/v1/nodes/n1`. */
  get(path: string): Stored | undefined;
  /** Objects of a collection, by path. */
  all(collection: string): Stored[];
  /** Creates or replaces, past all checks. `collection` as in a URL. */
  put(collection: string, object: object): Stored;
  remove(path: string): void;
  /** Asked for every request; the first that answers counts. Returns what takes it away again. */
  fault(decide: (request: Seen) => Fault | undefined): () => void;
  /** What a review (TokenReview, SubjectAccessReview) answers: its `status`. */
  onReview(answer: (kind: string, spec: Record<string, unknown>, object: Record<string, unknown>) => object): void;
  /** Forgets the history: every watch from an earlier version gets 410. */
  compact(): void;
  /** Sends a bookmark to every open watch. */
  bookmark(): void;
  /** Ends open watches; with `cut`, in the middle of a line. */
  endWatches(cut?: boolean): void;
  watches(): number;
  version(): string;
  close(): Promise<void>;
};

type Change = { version: number; path: string; collection: Place; before: Stored | undefined; after: Stored | undefined };
type Watcher = { place: Place; labels: string; fields: string; response: ServerResponse };

/** A small Kubernetes API in memory on a loopback port: resourceVersions with compare-and-swap, lists in pages, watches, evictions, reviews, and faults. */
export async function kubeApi(options: { tls?: { cert: string; key: string; ca: string }; token?: string } = {}): Promise<KubeApi> {
  const objects = new Map<string, { place: Place; object: Stored }>();
  const faults = new Set<(request: Seen) => Fault | undefined>();
  const watchers = new Set<Watcher>();
  const seen: Seen[] = [];
  let history: Change[] = [];
  let version = 100;
  let oldest = 100;
  let review: Parameters<KubeApi['onReview']>[0] = () => ({});

  const inside = (place: Place, collection: Place) =>
    place.root === collection.root &&
    place.resource === collection.resource &&
    (collection.namespace === undefined || collection.namespace === place.namespace);
  const pathOf = (place: Place, name: string) =>
    `${place.root}${place.namespace === undefined ? '' : `/namespaces/${place.namespace}`}/${place.resource}/${name}`;

  function record(path: string, place: Place, after: Stored | undefined): void {
    const before = objects.get(path)?.object;
    if (after) objects.set(path, { place, object: after });
    else objects.delete(path);
    const change = { version, path, collection: place, before, after };
    history.push(change);
    for (const watcher of watchers) tell(watcher, change);
  }
  function tell(watcher: Watcher, { collection, before, after, version: at }: Change): void {
    if (!inside(collection, watcher.place)) return;
    const was = before !== undefined && selects(before, watcher.labels, watcher.fields);
    const is = after !== undefined && selects(after, watcher.labels, watcher.fields);
    if (!was && !is) return;
    const type = was && is ? 'MODIFIED' : is ? 'ADDED' : 'DELETED';
    const shown = is ? after : before;
    if (!shown) return;
    const object = { ...shown, metadata: { ...shown.metadata, resourceVersion: String(at) } };
    watcher.response.write(`${JSON.stringify({ type, object })}\n`);
  }
  function write(place: Place, object: Stored): Stored {
    version++;
    const path = pathOf(place, object.metadata.name);
    const before = objects.get(path)?.object;
    const stored: Stored = {
      ...object,
      metadata: {
        creationTimestamp: new Date().toISOString(),
        ...object.metadata,
        ...(place.namespace !== undefined && { namespace: place.namespace }),
        uid: before?.metadata.uid ?? object.metadata.uid ?? randomUUID(),
        resourceVersion: String(version),
      },
    };
    record(path, place, stored);
    return stored;
  }
  function drop(path: string): void {
    const found = objects.get(path);
    if (!found) return;
    version++;
    record(path, found.place, undefined);
  }

  const send = (response: ServerResponse, code: number, body: object | string, headers: Record<string, string> = {}) =>
    response
      .writeHead(code, { 'content-type': 'application/json', ...headers })
      .end(typeof body === 'string' ? body : JSON.stringify(body));
  const refuse = (response: ServerResponse, code: number, reason: string, message = reason) =>
    send(response, code, statusOf(code, reason, message));

  function list(response: ServerResponse, place: Place, query: URLSearchParams): void {
    const after = query.get('continue') ?? '';
    const limit = Number(query.get('limit') ?? 0);
    const [found, rest] = [[...objects].filter(([, o]) => inside(o.place, place)).sort(([a], [b]) => (a < b ? -1 : 1)), [] as string[]];
    const selected = found
      .filter(([path, o]) => path > after && selects(o.object, query.get('labelSelector') ?? '', query.get('fieldSelector') ?? ''))
      .map(([path, o]) => ({ path, object: o.object }));
    const page = limit > 0 ? selected.slice(0, limit) : selected;
    if (page.length < selected.length) rest.push(page.at(-1)?.path ?? '');
    const metadata = {
      resourceVersion: String(version),
      ...(rest[0] && { continue: rest[0], remainingItemCount: selected.length - page.length }),
    };
    send(response, 200, { kind: 'List', apiVersion: 'v1', metadata, items: page.map(({ object }) => object) });
  }
  function watch(response: ServerResponse, place: Place, query: URLSearchParams): void {
    const from = query.get('resourceVersion') ?? '';
    if (from !== '' && from !== '0' && Number(from) < oldest) {
      response.writeHead(200, { 'content-type': 'application/json' });
      return void response.end(`${JSON.stringify({ type: 'ERROR', object: statusOf(410, 'Expired', 'too old resource version') })}\n`);
    }
    response.writeHead(200, { 'content-type': 'application/json' }).flushHeaders();
    const watcher = { place, labels: query.get('labelSelector') ?? '', fields: query.get('fieldSelector') ?? '', response };
    for (const change of history) if (change.version > Number(from || version)) tell(watcher, change);
    watchers.add(watcher);
    response.once('close', () => watchers.delete(watcher));
  }

  function change(response: ServerResponse, request: Seen, place: Place, path: string, present: Stored): void {
    const body = (request.body ?? {}) as Partial<Stored> & { preconditions?: { uid?: string; resourceVersion?: string } };
    const wanted = body.metadata?.resourceVersion ?? body.preconditions?.resourceVersion;
    const uid = body.preconditions?.uid;
    if ((wanted !== undefined && wanted !== present.metadata.resourceVersion) || (uid !== undefined && uid !== present.metadata.uid))
      return void refuse(response, 409, 'Conflict', 'the object has been modified');
    if (request.method === 'DELETE') {
      drop(path);
      return void send(response, 200, statusOf(200, '', ''));
    }
    if (request.method === 'PUT')
      return void send(response, 200, write(place, { ...(body as Stored), metadata: { ...(body as Stored).metadata } }));
    const patched = mergePatch(present, body) as Stored;
    send(response, 200, write(place, recordManager(patched, body, request.query.get('fieldManager') ?? 'unknown')));
  }

  function carryOut(response: ServerResponse, request: Seen): void {
    const { method, path, query } = request;
    const body = (request.body ?? {}) as Record<string, unknown>;
    if (path.endsWith('reviews')) {
      const status = review(String(body['kind']), body['spec'] as Record<string, unknown>, body);
      return void send(response, 201, { ...body, status });
    }
    const place = parsePlace(path);
    if (!place) return void refuse(response, 404, 'NotFound', 'the server could not find the requested resource');
    if (place.name === undefined) {
      if (method === 'POST') {
        const object = body as Stored;
        if (objects.has(pathOf(place, object.metadata.name))) return void refuse(response, 409, 'AlreadyExists');
        return void send(response, 201, write(place, object));
      }
      const answer = query.get('watch') === 'true' ? watch : list;
      answer(response, place, query);
      return;
    }
    const own = pathOf(place, place.name);
    const present = objects.get(own)?.object;
    if (!present) return void refuse(response, 404, 'NotFound', `${place.resource} "${place.name}" not found`);
    if (place.subresource === 'eviction') {
      const uid = (body['deleteOptions'] as { preconditions?: { uid?: string } } | undefined)?.preconditions?.uid;
      if (uid !== undefined && uid !== present.metadata.uid) return void refuse(response, 409, 'Conflict');
      drop(own);
      return void send(response, 201, statusOf(201, '', ''));
    }
    if (method === 'GET') return void send(response, 200, present);
    change(response, request, place, own, present);
  }

  async function handle(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const [path = '', search = ''] = (incoming.url ?? '').split('?');
    const request: Seen = {
      method: incoming.method ?? '',
      path: decodeURIComponent(path),
      query: new URLSearchParams(search),
      headers: incoming.headers,
      body: await read(incoming),
    };
    seen.push(request);
    let fault: Fault | undefined;
    for (const decide of faults) fault ??= decide(request);
    if (fault === 'silence') return;
    if (fault === 'refuse') return void incoming.socket.destroy();
    if (fault === 'lose') response.write = response.end = (() => incoming.socket.destroy()) as never;
    if (typeof fault === 'object' && 'code' in fault)
      return void send(response, fault.code, fault.body ?? statusOf(fault.code, '', `fault ${fault.code}`), fault.headers);
    if (typeof fault === 'object') {
      const end = response.end.bind(response) as (text: string) => ServerResponse;
      const { delay } = fault;
      response.end = ((text: string) => {
        setTimeout(() => end(text), delay);
        return response;
      }) as never;
    }
    carryOut(response, request);
  }

  const listener = (incoming: IncomingMessage, response: ServerResponse) => {
    handle(incoming, response).catch((error: unknown) => {
      if (response.headersSent) response.destroy();
      else response.writeHead(500).end(String(error));
    });
  };
  const server = options.tls ? createTlsServer({ cert: options.tls.cert, key: options.tls.key }, listener) : createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = `${options.tls ? 'https' : 'http'}://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const config = new KubeConfig();
  config.loadFromClusterAndUser(
    {
      name: 'memory',
      server: address,
      skipTLSVerify: !options.tls,
      ...(options.tls && { caData: Buffer.from(options.tls.ca).toString('base64') }),
    },
    { name: 'hub', ...(options.token && { token: options.token }) },
  );
  const client = kubeClient(config);

  return {
    server: address,
    config,
    client,
    seen,
    count: (method, path) => seen.filter((request) => request.method === method && request.path.includes(path)).length,
    get: (path) => objects.get(path)?.object,
    all(collection) {
      const place = parsePlace(collection);
      return place ? [...objects.values()].filter((o) => inside(o.place, place)).map((o) => o.object) : [];
    },
    put(collection, object) {
      const place = parsePlace(collection);
      if (!place) throw new Error(`${collection} is no collection`);
      return write(place, object as Stored);
    },
    remove: drop,
    fault(decide) {
      faults.add(decide);
      return () => void faults.delete(decide);
    },
    onReview(given) {
      review = given;
    },
    compact() {
      oldest = ++version;
      history = [];
    },
    bookmark() {
      version++;
      for (const { response } of watchers)
        response.write(`${JSON.stringify({ type: 'BOOKMARK', object: { metadata: { resourceVersion: String(version) } } })}\n`);
    },
    endWatches(cut = false) {
      for (const { response } of watchers) {
        if (cut) response.write('{"type":"MODIFIED","object":{"metada', () => response.destroy());
        else response.end();
      }
    },
    watches: () => watchers.size,
    version: () => String(version),
    async close() {
      client.close();
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}
