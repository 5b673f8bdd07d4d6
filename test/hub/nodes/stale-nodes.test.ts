import { expect, test } from 'vitest';
import { controlPlaneNodes } from '../../../src/hub/nodes/guards/control-plane-nodes.ts';
import { cleanUp } from '../../support/clean-up.ts';
import { kubeApi } from '../../support/kube-api.ts';
import { eventually } from '../auth/eventually.ts';
import { clockAhead } from './clock-ahead.ts';
import { harness, NODES } from './room-harness.ts';

const cleaning = cleanUp();

/** A room whose copy of the nodes is not followed any more. */
async function setUp() {
  const made = await harness();
  cleaning.after(made.close);
  for (const name of ['n1', 'n2']) made.node(name);
  await made.synced(2);
  const back = made.api.fault(({ path, query }) => (path === NODES && query.get('watch') ? { code: 503 } : undefined));
  made.api.endWatches();
  await eventually('trouble', () => made.errors.some((error) => String(error).includes('fault 503')));
  return { ...made, back };
}

test('regression: guards judged by a copy of the nodes that had not been followed for long', async () => {
  const { ask, calls, operations, back } = await setUp();
  expect((await ask('POST', '/nodes/n1/restart?dryRun=All')).code).toBe(200);
  const now = clockAhead(6_000);
  cleaning.after(now);
  for (const path of ['/nodes/n1/restart', '/nodes/n1/restart?force=true', '/nodes/n1/start', '/nodes/n1/stop?dryRun=All']) {
    const refused = await ask('POST', path, { force: true });
    expect(refused, path).toMatchObject({ code: 503, object: { reason: 'ServiceUnavailable', details: { retryAfterSeconds: 2 } } });
    expect((refused.object as { message: string }).message).toContain(
      'its copy of them could not be followed for 6 s: fault 503; try again',
    );
  }
  expect([calls, operations()]).toEqual([['dry restart soft n1'], []]);
  back();
  await eventually('the nodes to be known again', async () => (await ask('POST', '/nodes/n1/restart')).code === 201, 10_000);
});

test('regression: a list without a version, which means the most recent, was answered from a copy that was not followed', async () => {
  const { ask, node } = await setUp();
  node('n3');
  const names = async (path: string) =>
    ((await ask('GET', path)).object as { items: { metadata: { name: string } }[] }).items.map(({ metadata }) => metadata.name);
  cleaning.after(clockAhead(6_000));
  expect(await names('/nodes')).toEqual(['n1', 'n2', 'n3']);
  expect(await names('/nodes?resourceVersion=0')).toEqual(['n1', 'n2']);
});

test('the control plane is read from the API server, by both of its labels', async () => {
  const api = await kubeApi();
  cleaning.after(api.close);
  const node = (name: string, ...labels: string[]) =>
    api.put(NODES, { metadata: { name, labels: Object.fromEntries(labels.map((label) => [`node-role.kubernetes.io/${label}`, ''])) } });
  node('new', 'control-plane');
  node('old', 'master');
  node('both', 'control-plane', 'master');
  node('worker', 'worker');
  expect((await controlPlaneNodes(api.client)()).map(({ name }) => name).sort()).toEqual(['both', 'new', 'old']);
  api.fault(({ path }) => (path === NODES ? { code: 500 } : undefined));
  await expect(controlPlaneNodes(api.client)()).rejects.toThrow('fault 500');
});
