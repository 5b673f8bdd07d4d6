import { isExpired, KubeError } from '../../src/kube/errors.ts';
import { AS_TABLE } from './api.ts';
import { errorText } from './errors.ts';
import { EXIT, type ExitCode, UsageError } from './exit.ts';
import type { Flag } from './flags.ts';
import { passing } from './operations.ts';
import { outputOf } from './output.ts';
import { pause } from './pause.ts';
import type { Session } from './session.ts';
import { type Table, tablePrinter } from './table.ts';
import { tableOf, type View } from './view.ts';
import { watchOnce } from './watch.ts';

type KubeObject = { kind?: string; apiVersion?: string; metadata?: { name?: string; resourceVersion?: string } };

/** Flags of every command that shows objects. */
export const SHOW_FLAGS: readonly Flag[] = [
  {
    name: 'output',
    short: 'o',
    kind: 'text',
    placeholder: 'FORM',
    help: 'wide, json, yaml, name, jsonpath=TEMPLATE or custom-columns=SPEC',
    choices: ['wide', 'json', 'yaml', 'name', 'jsonpath=', 'custom-columns='],
  },
  { name: 'no-headers', kind: 'switch', help: 'Leave out the header of the table', default: 'false' },
  { name: 'watch', short: 'w', kind: 'switch', help: 'Go on and show every change, until Ctrl-C', default: 'false' },
];

/**
 * Shows all objects of a collection that match `query`, or those in `names`; with --watch also every change after that. Tables are the server's,
 * or made by `view`, which then also chooses among the objects.
 */
export async function showObjects<T extends KubeObject>(
  session: Session,
  path: string,
  names: readonly string[],
  query: Record<string, string | undefined>,
  view?: View<T>,
): Promise<ExitCode> {
  const output = outputOf(session.flags.text('output'), true);
  const watch = session.flags.on('watch');
  if (watch && names.length > 1) throw new UsageError('--watch shows one object by its name, or all of them');
  const narrowed = watch && names[0] !== undefined ? { ...query, fieldSelector: `metadata.name=${names[0]}` } : query;
  try {
    const asTable = output.form === 'human' || output.form === 'wide';
    const shown = watch ? [] : names;
    if (!asTable)
      return await showForms<T>(
        session,
        (objects, list) => session.stdio.out(output.print(objects, list)),
        path,
        shown,
        narrowed,
        watch,
        view,
      );
    const print = tablePrinter(output.form === 'wide', !session.flags.on('no-headers'));
    if (!view) return await showTables(session, (table) => session.stdio.out(print(table)), path, shown, narrowed, watch);
    const show = (objects: readonly T[]) => {
      session.stdio.out(print(tableOf(view, objects)));
      if (objects.length === 0 && !watch) session.stdio.err('No resources found\n');
    };
    return await showForms<T>(session, show, path, shown, narrowed, watch, view);
  } catch (error) {
    // Ctrl-C is how a watch is ended.
    if (watch && session.signal.aborted) return EXIT.done;
    throw error;
  }
}

async function showTables(
  session: Session,
  show: (table: Table) => void,
  path: string,
  names: readonly string[],
  query: Record<string, string | undefined>,
  watch: boolean,
): Promise<ExitCode> {
  const ask = async (address: string, more: Record<string, string | undefined>) => {
    const { body } = await session.api().ask<Table>({ path: address, query: more, headers: { accept: AS_TABLE }, signal: session.signal });
    if (body.kind !== 'Table') throw new Error(`${address}: the server gave ${body.kind}, not a Table`);
    return body;
  };
  if (names.length > 0) return await showNamed(session, names, async (name) => show(await ask(`${path}/${name}`, {})));
  const list = async () => {
    const table = await ask(path, query);
    show(table);
    if (!table.rows?.length && !watch) session.stdio.err('No resources found\n');
    return table.metadata?.resourceVersion;
  };
  const from = await list();
  if (!watch) return EXIT.done;
  return await follow<Table>(
    session,
    path,
    query,
    from,
    list,
    show,
    (table) => table.rows?.at(-1)?.object?.metadata?.resourceVersion,
    AS_TABLE,
  );
}

async function showForms<T extends KubeObject>(
  session: Session,
  show: (objects: readonly T[], list: boolean) => void,
  path: string,
  names: readonly string[],
  query: Record<string, string | undefined>,
  watch: boolean,
  view: View<T> | undefined,
): Promise<ExitCode> {
  if (names.length > 0) {
    const found: T[] = [];
    const code = await showNamed(session, names, async (name) => {
      found.push((await session.api().ask<T>({ path: `${path}/${name}`, signal: session.signal })).body);
    });
    if (found.length > 0) show(found, names.length > 1);
    return code;
  }
  const shown = new Set<string>();
  const wanted = (object: T) => {
    const name = object.metadata?.name ?? '';
    const keep = !view || view.keep(object) || shown.has(name);
    if (keep) shown.add(name);
    return keep;
  };
  const list = async () => {
    type List = { apiVersion?: string; kind?: string; metadata?: { resourceVersion?: string }; items: T[] };
    const { body } = await session.api().ask<List>({ path, query, signal: session.signal });
    // Items of a list carry no kind of their own on the wire.
    const kind = { apiVersion: body.apiVersion ?? '', kind: body.kind?.replace(/List$/, '') ?? '' };
    const items = body.items.filter(wanted).map((item) => ({ ...kind, ...item }));
    if (!watch) show(items, true);
    else for (const item of items) show([item], false);
    return body.metadata?.resourceVersion;
  };
  const from = await list();
  if (!watch) return EXIT.done;
  return await follow<T>(
    session,
    path,
    query,
    from,
    list,
    (object) => {
      if (wanted(object)) show([object], false);
    },
    (object) => object.metadata?.resourceVersion,
  );
}

/** Each name; one that fails does not hide the others. */
async function showNamed(session: Session, names: readonly string[], show: (name: string) => Promise<void>): Promise<ExitCode> {
  let code: ExitCode = EXIT.done;
  for (const name of names) {
    try {
      await show(encodeURIComponent(name));
    } catch (error) {
      if (!(error instanceof KubeError)) throw error;
      session.stdio.err(`error: ${errorText(error)}\n`);
      code = EXIT.error;
    }
  }
  return code;
}

/** Shows changes until Ctrl-C, over lost connections; lists anew when the server has forgotten the version. */
async function follow<T>(
  session: Session,
  path: string,
  query: Record<string, string | undefined>,
  from: string | undefined,
  list: () => Promise<string | undefined>,
  show: (object: T) => void,
  versionOf: (object: T) => string | undefined,
  accept?: string,
): Promise<ExitCode> {
  let version = from;
  for (let delay = 200; ; ) {
    const began = performance.now();
    try {
      version ??= await list();
      for await (const event of watchOnce<T>(session.api(), path, { ...query, resourceVersion: version }, session.signal, accept)) {
        version = versionOf(event.object) ?? version;
        if (event.type !== 'BOOKMARK') show(event.object);
        delay = 200;
      }
      if (performance.now() - began > 5_000) continue;
    } catch (error) {
      session.signal.throwIfAborted();
      if (isExpired(error)) version = undefined;
      else if (!passing(error)) throw error;
      else session.stdio.err(`connection lost, trying again: ${errorText(error)}\n`);
    }
    await pause(delay, session.signal);
    delay = Math.min(delay * 2, 5_000);
  }
}
