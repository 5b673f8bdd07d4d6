import { describe, expect, test } from 'vitest';
import { cleanUp } from '../../support/clean-up.ts';
import { eventually } from '../auth/eventually.ts';
import { harness, MAPS, NODES } from './room-harness.ts';

const cleaning = cleanUp();

async function setUp() {
  const made = await harness();
  cleaning.after(made.close);
  for (const name of ['n1', 'n2', 'n3']) made.node(name);
  await made.synced(3);
  return made;
}
const nameOf = ({ object }: { object: object }) => (object as { metadata: { name: string } }).metadata.name;

describe('views', () => {
  test('lists from memory or by the core API, as the parameters ask for it, with the same items', async () => {
    const { ask, api } = await setUp();
    const lists = () => api.seen.filter(({ method, path, query }) => method === 'GET' && path === NODES && !query.get('watch')).length;
    const before = lists();
    const memory = (await ask('GET', '/nodes')).object as { items: object[] };
    expect(lists()).toBe(before);
    for (const query of ['limit=2', 'labelSelector=a%3Db', 'fieldSelector=metadata.name%3Dn1', 'resourceVersion=1'])
      await ask('GET', `/nodes?${query}`);
    expect(lists()).toBe(before + 4);
    const { items, metadata } = (await ask('GET', '/nodes?limit=2')).object as { items: object[]; metadata: { continue: string } };
    expect(items).toEqual(memory.items.slice(0, 2));
    const rest = (await ask('GET', `/nodes?limit=2&continue=${encodeURIComponent(metadata.continue)}`)).object as { items: object[] };
    expect(rest.items).toEqual(memory.items.slice(2));
  });

  test('a watch of nodes and of operations passes on what the core API tells, and nothing else of its ConfigMaps', async () => {
    const { ask, node } = await setUp();
    const [nodes, operations] = [await ask('GET', '/nodes?watch=true'), await ask('GET', '/nodeoperations?watch=true')];
    node('n9');
    await ask('POST', '/nodes/n1/restart');
    await eventually('both', () => nodes.text().includes('n9') && operations.text().includes('Pending'));
    for (const text of [nodes.text(), operations.text()])
      for (const line of text.trim().split('\n'))
        expect(JSON.parse(line)).toMatchObject({ object: { apiVersion: 'infraops.michael.io/v1' } });
    expect(operations.text()).not.toContain('fairlead-node-operations');
    nodes.end();
    operations.end();
  });

  test('an operation that somebody edited is left out and reported', async () => {
    const { ask, api, errors } = await setUp();
    await ask('POST', '/nodes/n1/restart');
    api.put(MAPS, { metadata: { name: 'edited', labels: { 'infraops.michael.io/object': 'operation' } }, data: { spec: '{' } });
    const { items } = (await ask('GET', '/nodeoperations')).object as { items: object[] };
    expect(items).toHaveLength(1);
    expect(errors.map(String).join()).toContain('ConfigMap edited');
  });

  test('log: phases in the order of time, one line each; follow goes on, also over a list that is read anew', async () => {
    const { ask, api, status } = await setUp();
    const name = nameOf(await ask('POST', '/nodes/n1/restart'));
    expect((await ask('GET', '/nodes/none/log')).code).toBe(404);
    expect((await ask('GET', '/nodes/n1/log?tailLines=x')).code).toBe(400);
    expect((await ask('GET', '/nodes/n1/log?follow=perhaps')).code).toBe(400);
    const follow = await ask('GET', '/nodes/n1/log?follow=true');
    await eventually('the first line', () => follow.text().includes('Pending'));
    const change = (phase: string, message: string) => {
      const map = api.get(`${MAPS}/${name}`);
      const history = [...(status(name).history ?? []), { phase, time: new Date().toISOString(), message }];
      api.put(MAPS, { ...map, data: { ...map?.data, status: JSON.stringify({ ...status(name), phase, history }) } });
    };
    change('Restarting', 'two\nlines');
    await eventually('the second line', () => follow.text().includes(`${name} Restarting two lines\n`));
    // The watch expires, and the operation ends before the hub has read the list anew.
    const back = api.fault(({ query }) => (query.get('watch') ? { code: 503 } : undefined));
    api.endWatches();
    await eventually('no watch', () => api.watches() === 0);
    change('Succeeded', 'done');
    api.compact();
    back();
    await eventually('the last line', () => follow.text().includes(`${name} Succeeded done\n`), 10_000);
    follow.end();
    expect(follow.text().trim().split('\n')).toHaveLength(3);
    const tail = await ask('GET', '/nodes/n1/log?tailLines=1');
    await eventually('the tail', () => tail.text().includes('Succeeded'));
    expect(tail.text().trim().split('\n')).toHaveLength(1);
  });
});

test('instance: the word of the cloud, now', async () => {
  const { ask, power } = await setUp();
  power.set('n1', 'Stopped');
  expect(await ask('GET', '/nodes/n1/instance')).toMatchObject({
    code: 200,
    object: { kind: 'NodeInstance', status: { powerState: 'Stopped' } },
  });
  expect((await ask('GET', '/nodes/none/instance')).code).toBe(404);
});
