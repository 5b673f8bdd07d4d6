import type { ServerResponse } from 'node:http';
import type { KubeClient } from '../../kube/client.ts';
import { lines } from '../../kube/lines.ts';
import { badRequest } from '../../kube/status.ts';
import type { Raw } from '../../kube/watch-cache.ts';
import { negotiate, OBJECT_CONVERSIONS } from './negotiate.ts';
import type { Column, Reply, RequestContext } from './resource.ts';
import { includeObject, watchConverter } from './table.ts';

/** A collection of the core API that a resource of ours is a view of. */
export type View<R extends Raw> = {
  client: KubeClient;
  /** Collection of the core API. */
  path: string;
  /** Selectors for the core API from those of the request. */
  selectors: (labelSelector: string, fieldSelector: string) => { labelSelector?: string; fieldSelector?: string };
  /** Undefined for what is not shown. */
  transform: (raw: R) => object | undefined;
  apiVersion: string;
  kind: string;
  columns: Column<never>[];
};

const LIST_PARAMETERS = ['limit', 'continue', 'resourceVersion', 'resourceVersionMatch', 'timeoutSeconds'];
const WATCH_PARAMETERS = ['resourceVersion', 'resourceVersionMatch', 'timeoutSeconds', 'allowWatchBookmarks', 'sendInitialEvents'];

function upstreamQuery<R extends Raw>(view: View<R>, context: RequestContext, names: string[]): URLSearchParams {
  const query = new URLSearchParams();
  for (const name of names) {
    const values = context.query.getAll(name);
    if (values.length > 1) throw badRequest(`parameter ${name} is given ${values.length} times`);
    if (values[0] !== undefined) query.set(name, values[0]);
  }
  const selectors = view.selectors(context.query.get('labelSelector') ?? '', context.query.get('fieldSelector') ?? '');
  for (const [name, value] of Object.entries(selectors)) if (value) query.set(name, value);
  return query;
}

/** A list by the core API: limit, continue, resourceVersion and selectors mean what they mean there, because they are answered there. */
export async function passList<R extends Raw>(view: View<R>, context: RequestContext): Promise<Reply> {
  const list = await view.client.request<{ metadata: object; items: R[] }>({
    path: view.path,
    query: upstreamQuery(view, context, LIST_PARAMETERS),
    signal: context.signal,
    timeoutMs: 55_000,
  });
  const items = list.items.map(view.transform).filter((item) => item !== undefined);
  return { object: { apiVersion: view.apiVersion, kind: `${view.kind}List`, metadata: list.metadata, items } };
}

type Event<R> = { type: string; object: R };

/** A watch of the core API, each object as our view of it; bookmarks and errors pass through. */
export async function passWatch<R extends Raw>(view: View<R>, context: RequestContext): Promise<Reply> {
  const accept = negotiate(context.headers.accept, ['application/json'], OBJECT_CONVERSIONS);
  const convert = watchConverter(accept.convert, view.columns, includeObject(context.query));
  const query = upstreamQuery(view, context, WATCH_PARAMETERS);
  query.set('watch', 'true');
  // Errors of the core API (410 Expired, 400) come before the answer begins and are answered as they are.
  const upstream = await view.client.stream({ path: view.path, query, signal: context.signal, timeoutMs: 55_000 });
  return {
    async stream(_request, response) {
      response.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-cache, private' });
      response.flushHeaders();
      try {
        for await (const line of lines(upstream)) {
          const event = JSON.parse(line) as Event<R>;
          const object = shown(view, event);
          if (object && !response.write(`${JSON.stringify(convert({ type: event.type, object }))}\n`))
            await drained(response, context.signal);
        }
      } catch (error) {
        // The client sees the end of the stream and watches again from where it was.
        if (error instanceof SyntaxError) throw error;
      } finally {
        upstream.destroy();
        response.end();
      }
    },
  };
}

function shown<R extends Raw>(view: View<R>, event: Event<R>): object | undefined {
  if (event.type === 'ERROR') return event.object;
  if (event.type !== 'BOOKMARK') return view.transform(event.object);
  const { resourceVersion } = event.object.metadata;
  const annotations = (event.object.metadata as { annotations?: object }).annotations;
  return { apiVersion: view.apiVersion, kind: view.kind, metadata: { resourceVersion, ...(annotations && { annotations }) } };
}

/** Waits until the client has read; a client that does not read stops the upstream watch too, never fills memory. */
async function drained(response: ServerResponse, signal: AbortSignal): Promise<void> {
  // What is gone already tells nobody any more.
  if (signal.aborted || response.destroyed) return;
  await new Promise<void>((resolve) => {
    const done = () => {
      response.off('drain', done);
      response.off('close', done);
      signal.removeEventListener('abort', done);
      resolve();
    };
    response.on('drain', done);
    response.on('close', done);
    signal.addEventListener('abort', done);
  });
}
