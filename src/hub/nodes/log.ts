import { badRequest, notFound } from '../../kube/status.ts';
import type { Handler } from '../http/resource.ts';
import type { Operation } from './operations/store.ts';
import type { NodeRoom } from './room.ts';
import { GROUP } from './schema.ts';

const line = (operation: Operation, entry: { phase: string; time: string; message?: string }) =>
  `${entry.time} ${operation.metadata.name} ${entry.phase}${entry.message ? ` ${entry.message.replaceAll(/\s+/g, ' ')}` : ''}\n`;

function truth(query: URLSearchParams, name: string): boolean {
  const value = query.get(name);
  const text = value?.toLowerCase();
  if (text === undefined || text === 'false' || text === '0') return false;
  if (text === '' || text === 'true' || text === '1') return true;
  throw badRequest(`${name}: must be true or false, not ${JSON.stringify(value?.slice(0, 32))}`);
}

function tail(query: URLSearchParams): number {
  const value = query.get('tailLines');
  if (value === null) return Number.POSITIVE_INFINITY;
  if (!/^\d{1,9}$/.test(value)) throw badRequest(`tailLines: must be a whole number, not ${JSON.stringify(value.slice(0, 32))}`);
  return Number(value);
}

/** GET nodes/<n>/log: the phases of the node's operations as text lines, in the order of time; `follow=true` goes on as they come. `operation=NAME` keeps one. */
export function nodeLog(room: NodeRoom): Handler {
  return async (context) => {
    const { name } = context.info;
    const only = context.query.get('operation');
    const follow = truth(context.query, 'follow');
    const last = tail(context.query);
    const ofNode = (operation: Operation) => operation.spec.nodeName === name && (!only || operation.metadata.name === only);
    const operations = [...room.operations.operations()].filter(ofNode);
    if (operations.length === 0 && !room.directory.get(name)) throw notFound({ group: GROUP, kind: 'nodes', name });

    return {
      async stream(_request, response) {
        response.writeHead(200, {
          'content-type': 'text/plain; charset=utf-8',
          'cache-control': 'no-cache, private',
          'x-content-type-options': 'nosniff',
        });
        const told = new Map<string, number>();
        const past = operations.flatMap((operation) => {
          told.set(operation.metadata.name, operation.status.history?.length ?? 0);
          return (operation.status.history ?? []).map((entry) => ({ time: entry.time, text: line(operation, entry) }));
        });
        past.sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0));
        for (const { text } of last === 0 ? [] : past.slice(-Math.min(last, past.length))) response.write(text);
        if (!follow) {
          response.end();
          return;
        }
        response.flushHeaders();
        await new Promise<void>((resolve) => {
          const stop = AbortSignal.any([context.signal]);
          const finish = () => {
            response.end();
            resolve();
          };
          if (stop.aborted) return finish();
          stop.addEventListener('abort', finish, { once: true });
          const show = (operation: Operation) => {
            if (!ofNode(operation)) return;
            const history = operation.status.history ?? [];
            for (const entry of history.slice(told.get(operation.metadata.name) ?? 0)) response.write(line(operation, entry));
            told.set(operation.metadata.name, history.length);
          };
          room.operations.onChange(({ name, object }) => {
            // After a new list each operation may have gone on.
            if (name === undefined) for (const operation of room.operations.operations()) show(operation);
            else if (object && 'operation' in object) show(object.operation);
          }, stop);
        });
      },
    };
  };
}
