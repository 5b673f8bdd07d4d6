import { describe, expect, test } from 'vitest';
import { toStatusError } from '../../../src/hub/http/errors.ts';
import type { NodeSettings } from '../../../src/hub/nodes/settings.ts';
import { cleanUp } from '../../support/clean-up.ts';
import { eventually } from '../auth/eventually.ts';
import { harness, MAPS, NODES } from './room-harness.ts';

const cleaning = cleanUp();

async function setUp(settings: Partial<NodeSettings> = {}, hardRestart = true) {
  const made = await harness(settings, hardRestart);
  cleaning.after(made.close);
  for (const name of ['n1', 'n2', 'n3']) made.node(name);
  await made.synced(3);
  return made;
}
const nameOf = ({ object }: { object: object }) => (object as { metadata: { name: string } }).metadata.name;
const causes = ({ object }: { object: object }) =>
  (object as { details?: { causes?: { field: string }[] } }).details?.causes?.map(({ field }) => field);

describe('a request', () => {
  test('is one ConfigMap in phase Pending and an entry in the ledger; the cloud is not asked', async () => {
    const { ask, operations, calls, status, api } = await setUp();
    const answer = await ask('POST', '/nodes/n1/restart', { body: { reason: 'why', hard: true } });
    expect(answer).toMatchObject({
      code: 201,
      object: { kind: 'NodeOperation', spec: { nodeName: 'n1', action: 'Restart', reason: 'why', hard: true, auditID: 'audit-1' } },
    });
    expect(operations()).toHaveLength(1);
    expect(status(nameOf(answer))).toMatchObject({ phase: 'Pending', bootIDBefore: 'boot-1', machine: { instanceID: 'n1' } });
    expect(api.get(`${MAPS}/fairlead-node-operations`)?.data?.['active']).toContain(nameOf(answer));
    expect(calls).toEqual([]);
  });

  test('takes its options from the query as well, and refuses what contradicts or does not exist', async () => {
    const { ask, operations } = await setUp();
    expect(await ask('POST', '/nodes/n1/stop?drain=true&gracePeriodSeconds=5&reason=q')).toMatchObject({
      code: 201,
      object: { spec: { action: 'Stop', drain: true, gracePeriodSeconds: 5, reason: 'q' } },
    });
    expect((await ask('POST', '/nodes/n2/restart?hard=true', { body: { hard: false } })).code).toBe(400);
    expect((await ask('POST', '/nodes/n2/restart?timeoutSeconds=soon')).code).toBe(400);
    expect((await ask('POST', '/nodes/n2/restart', { body: { timeoutSeconds: -1 } })).code).toBe(422);
    expect((await ask('POST', '/nodes/none/restart')).code).toBe(404);
    expect(operations()).toHaveLength(1);
  });

  test('regression: the audit line did not say why, nor that it was forced, nor which operation it made', async () => {
    const { ask } = await setUp();
    const body = { reason: 'kernel update', force: true, disableEviction: true, drain: true };
    const forced = await ask('POST', '/nodes/n1/restart', { body, force: true });
    expect(forced.annotations).toEqual({
      'infraops.michael.io/reason': 'kernel update',
      'infraops.michael.io/force': 'true',
      'infraops.michael.io/disable-eviction': 'true',
      'infraops.michael.io/operation': nameOf(forced),
    });
    // Also when it is refused; there is no operation then.
    const refused = await ask('POST', '/nodes/n1/stop?reason=again');
    expect([refused.code, refused.annotations]).toEqual([409, { 'infraops.michael.io/reason': 'again' }]);
    const dry = await ask('POST', '/nodes/n2/restart?dryRun=All');
    expect(dry.annotations).toEqual({ 'infraops.michael.io/dry-run': 'true' });
  });

  test('dry run: every guard and the cloud answer, and nothing is changed', async () => {
    const { ask, api, calls } = await setUp();
    const version = api.version();
    const answer = await ask('POST', '/nodes/n1/restart?dryRun=All&hard=true');
    expect(answer.code).toBe(200);
    const { guards } = (answer.object as { status: { guards: { guard: string; passed: boolean }[] } }).status;
    expect(guards.every(({ passed }) => passed)).toBe(true);
    expect(guards.map(({ guard }) => guard)).toEqual(
      expect.arrayContaining([
        'AlreadyRunning',
        'UniqueMachine',
        'OwnNode',
        'ControlPlaneQuorum',
        'MaxNodesDown',
        'Cooldown',
        'Veto',
        'CloudDryRun',
      ]),
    );
    expect(calls).toEqual(['dry restart hard n1']);
    expect(api.version()).toBe(version);
  });

  test('409 with one cause for each guard that refuses; force needs its verb, and then each skipped guard is a warning', async () => {
    const { ask, node, synced, operations } = await setUp();
    const annotations = {
      'infraops.michael.io/veto': 'backup',
      'infraops.michael.io/last-restart': JSON.stringify({ time: new Date().toISOString() }),
    };
    node('n4', { annotations });
    await synced(4);
    const refused = await ask('POST', '/nodes/n4/restart');
    expect([refused.code, causes(refused)]).toEqual([409, ['Cooldown', 'Veto']]);
    expect(JSON.stringify(refused.object)).toContain('backup');
    expect((await ask('POST', '/nodes/n4/restart?force=true')).code).toBe(403);
    expect((await ask('POST', '/nodes/n4/restart?disableEviction=true')).code).toBe(403);
    expect(operations()).toHaveLength(0);
    const forced = await ask('POST', '/nodes/n4/restart?force=true', { force: true });
    expect(forced.code).toBe(201);
    expect(forced.warnings.map((warning) => /^guard (\w+) skipped by force/.exec(warning)?.[1])).toEqual(['Cooldown', 'Veto']);
  });

  test('a second one on the same node is 409, also with force', async () => {
    const { ask } = await setUp();
    expect((await ask('POST', '/nodes/n1/restart')).code).toBe(201);
    const second = await ask('POST', '/nodes/n1/stop?force=true', { force: true });
    expect([second.code, causes(second)]).toEqual([409, ['AlreadyRunning']]);
  });

  test('R18: two nodes with one machine are 409, a machine of no cloud is 422 with the supported ones', async () => {
    const { ask, node, synced, operations } = await setUp();
    node('twin', { providerID: 'memory://n1' });
    node('kwok', { providerID: 'kwok://kwok' });
    await synced(5);
    for (const name of ['n1', 'twin']) {
      const refused = await ask('POST', `/nodes/${name}/restart?force=true`, { force: true });
      expect([refused.code, causes(refused)]).toEqual([409, ['UniqueMachine']]);
    }
    const unsupported = await ask('POST', '/nodes/kwok/restart');
    expect([unsupported.code, causes(unsupported)]).toEqual([422, ['spec.providerID']]);
    expect(JSON.stringify(unsupported.object)).toContain('supported: memory://NAME');
    expect(operations()).toHaveLength(0);
  });

  test('the same request id gives the same operation, also when both come at once; another action gives another', async () => {
    const { ask, operations } = await setUp();
    const path = '/nodes/n1/restart?requestID=r1';
    const answers = await Promise.all([ask('POST', path), ask('POST', path), ask('POST', path)]);
    expect(new Set(answers.map(nameOf)).size).toBe(1);
    expect(answers.map(({ code }) => code).sort()).toEqual([200, 200, 201]);
    expect(nameOf(await ask('POST', path))).toBe(nameOf(answers[0]));
    expect((await ask('POST', '/nodes/n1/stop?requestID=r1')).code).toBe(409);
    expect(operations()).toHaveLength(1);
  });

  test('429 with a time to wait when the hub is full', async () => {
    const { ask } = await setUp({ maxOperations: 2 });
    for (const name of ['n1', 'n2']) expect((await ask('POST', `/nodes/${name}/restart`)).code).toBe(201);
    expect(await ask('POST', '/nodes/n3/restart')).toMatchObject({ code: 429, object: { details: { retryAfterSeconds: 10 } } });
  });

  test('a lost answer to the write is still one operation and 201', async () => {
    const { ask, api, operations } = await setUp();
    let lost = 0;
    api.fault(({ method, path, body }) =>
      method === 'POST' && path === MAPS && JSON.stringify(body).includes('"spec"') && lost++ === 0 ? 'lose' : undefined,
    );
    expect((await ask('POST', '/nodes/n1/restart')).code).toBe(201);
    expect(operations()).toHaveLength(1);
  });

  test('a write that is refused gives its place in the ledger back', async () => {
    const { ask, api } = await setUp();
    const back = api.fault(({ method, body }) =>
      method === 'POST' && JSON.stringify(body).includes('"spec"') ? { code: 403 } : undefined,
    );
    await expect(ask('POST', '/nodes/n1/restart')).rejects.toThrow('fault 403');
    back();
    expect((await ask('POST', '/nodes/n1/restart')).code).toBe(201);
  });

  test('regression: a write that was cut off before it was carried out was an internal error instead of 503', async () => {
    const { ask, api, operations } = await setUp();
    const back = api.fault(({ method, body }) => (method === 'POST' && JSON.stringify(body).includes('"spec"') ? 'refuse' : undefined));
    const error = await ask('POST', '/nodes/n1/restart').catch((thrown: unknown) => thrown);
    expect(toStatusError(error, () => undefined).status).toMatchObject({ code: 503, reason: 'ServiceUnavailable' });
    back();
    expect(operations()).toEqual([]);
    // Its place is free at once.
    expect((await ask('POST', '/nodes/n1/restart')).code).toBe(201);
  });

  test('regression: an operation whose write may have succeeded lost its place in the ledger', async () => {
    const { ask, api, operations } = await setUp();
    const isOperation = (body: unknown) => JSON.stringify(body ?? '').includes('"spec"');
    const back = api.fault(({ method, path, body }) => {
      if (method === 'POST' && isOperation(body)) return 'lose';
      return method === 'GET' && path.startsWith(`${MAPS}/restart-`) ? { code: 503 } : undefined;
    });
    await expect(ask('POST', '/nodes/n1/restart')).rejects.toThrow();
    back();
    expect(operations()).toHaveLength(1);
    // The operation stands there and will be run: no second one may come beside it.
    const second = await ask('POST', '/nodes/n1/restart');
    expect([second.code, causes(second)]).toEqual([409, ['AlreadyRunning']]);
  });
});

describe('the leader', () => {
  const ended = (made: Awaited<ReturnType<typeof setUp>>, name: string) =>
    eventually('the end', () => ['Succeeded', 'Failed', 'Cancelled'].includes(made.status(name).phase), 15_000);

  test.each([
    ['restart', '', true, ['restart soft n1'], ['Pending', 'Restarting', 'WaitingForReady', 'Succeeded']],
    ['restart', '?hard=true', true, ['restart hard n1'], ['Pending', 'Restarting', 'WaitingForReady', 'Succeeded']],
    ['restart', '?hard=true', false, ['stop hard n1', 'start n1'], ['Pending', 'Stopping', 'Starting', 'WaitingForReady', 'Succeeded']],
    ['stop', '', true, ['stop soft n1'], ['Pending', 'Stopping', 'Succeeded']],
  ])('%s%s, hard restarts of the cloud: %s', async (action, query, hardRestart, calls, phases) => {
    const made = await setUp({}, hardRestart);
    const stop = made.lead();
    cleaning.after(stop);
    const name = nameOf(await made.ask('POST', `/nodes/n1/${action}${query}`));
    await ended(made, name);
    expect(made.status(name).history?.map(({ phase }) => phase)).toEqual(phases);
    expect(made.calls).toEqual(calls);
    await eventually('the ledger is empty', () => made.api.get(`${MAPS}/fairlead-node-operations`)?.data?.['active'] === '[]');
    const annotations = made.api.get(`${NODES}/n1`)?.metadata.annotations ?? {};
    expect(annotations['infraops.michael.io/operation']).toBeUndefined();
    // regression: a stop was noted as a restart, so that LAST-RESTART and the guard Cooldown told of one that had never been.
    if (action === 'stop') expect(annotations['infraops.michael.io/last-restart']).toBeUndefined();
    else expect(annotations['infraops.michael.io/last-restart']).toContain(name);
    expect(made.api.all('/apis/coordination.k8s.io/v1/namespaces/x/leases')).toEqual([]);
    // The Event comes after the end can be seen.
    await eventually('both Events', () => made.events.length === 2);
    expect(made.events.map(({ regarding, type }) => [regarding.kind, type])).toEqual([
      ['Node', 'Normal'],
      ['Node', 'Normal'],
    ]);
  });

  test('takes up what another left half done and does not call again what was accepted', async () => {
    const made = await setUp();
    const name = nameOf(await made.ask('POST', '/nodes/n1/restart'));
    const map = made.api.get(`${MAPS}/${name}`);
    const status = {
      ...made.status(name),
      phase: 'Restarting',
      holder: 'dead-replica',
      calls: [{ action: 'RestartSoft', attempt: 1, state: 'Accepted', time: new Date().toISOString() }],
    };
    made.api.put(MAPS, { ...map, data: { ...map?.data, status: JSON.stringify(status) } });
    cleaning.after(made.lead());
    await eventually('it waits', () => made.status(name).phase === 'WaitingForReady');
    const node = made.api.get(`${NODES}/n1`);
    made.api.put(NODES, { ...node, status: { ...node?.status, nodeInfo: { bootID: 'boot-9' } } });
    await ended(made, name);
    expect(made.status(name).phase).toBe('Succeeded');
    expect(made.calls).toEqual([]);
  });

  test('cancelled while it waits for its turn: nothing is sent; cancelled after the end: 409', async () => {
    const made = await setUp();
    const name = nameOf(await made.ask('POST', '/nodes/n1/restart'));
    expect(await made.ask('POST', `/nodeoperations/${name}/cancel`, { body: { reason: 'wrong node' }, user: 'eve' })).toMatchObject({
      code: 201,
      object: { status: { cancelRequested: 'eve: wrong node' } },
    });
    cleaning.after(made.lead());
    await ended(made, name);
    expect(made.status(name)).toMatchObject({ phase: 'Cancelled', reason: 'Cancelled' });
    expect(made.calls).toEqual([]);
    expect((await made.ask('POST', `/nodeoperations/${name}/cancel`)).code).toBe(409);
    expect((await made.ask('POST', '/nodeoperations/none/cancel')).code).toBe(404);
  });

  test('regression: a ledger that was deleted while operations ran was not built anew', async () => {
    const made = await setUp();
    made.node('n4', { ready: false });
    await made.synced(4);
    const name = nameOf(await made.ask('POST', '/nodes/n4/restart'));
    cleaning.after(made.lead());
    await eventually('it waits for the node', () => made.status(name).phase === 'WaitingForReady');
    made.api.remove(`${MAPS}/fairlead-node-operations`);
    await eventually('the ledger', () => made.api.get(`${MAPS}/fairlead-node-operations`)?.data?.['active']?.includes(name), 15_000);
  });
});
