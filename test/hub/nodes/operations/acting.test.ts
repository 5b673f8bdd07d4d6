import { describe, expect, test } from 'vitest';
import { cleanUp } from '../../../support/clean-up.ts';
import type { Stored } from '../../../support/kube-api.ts';
import { eventually } from '../../auth/eventually.ts';
import { clockAhead } from '../clock-ahead.ts';
import { type Harness, harness, MAPS, NODES } from '../room-harness.ts';

const cleaning = cleanUp();
const VETO = { 'infraops.michael.io/veto': 'a disk is being copied' };

async function setUp(settings: Parameters<typeof harness>[0] = {}, hardRestart = true) {
  const made = await harness(settings, hardRestart);
  cleaning.after(made.close);
  for (const name of ['n1', 'n2']) made.node(name);
  await made.synced(2);
  const begin = async (path: string, body: object = {}) => {
    const { code, object } = await made.ask('POST', path, { body, force: true });
    expect(code).toBe(201);
    return (object as { metadata: { name: string } }).metadata.name;
  };
  const finish = async (name: string) => {
    cleaning.after(made.lead());
    await eventually('the end', () => ['Succeeded', 'Failed', 'Cancelled'].includes(made.status(name).phase), 15_000);
    return made.status(name) as ReturnType<Harness['status']> & { message: string };
  };
  /** What another replica has left of it. */
  const leave = (name: string, left: object) => {
    const map = made.api.get(`${MAPS}/${name}`) as Stored;
    made.api.put(MAPS, {
      ...map,
      data: { ...map.data, status: JSON.stringify({ ...made.status(name), holder: 'dead-replica', ...left }) },
    });
  };
  const call = (action: string, state: string) => ({ action, attempt: 1, state, time: new Date().toISOString() });
  return { ...made, begin, finish, leave, call };
}

describe('guards are asked again right before the call', () => {
  const refused = {
    phase: 'Failed',
    reason: 'GuardRefused',
    message: expect.stringMatching(/^right before the call, guard Veto refuses: .*a disk is being copied$/),
  };
  test.each(['restart', 'stop'])('regression: a %s that waited for a leader went past a veto that came meanwhile', async (action) => {
    const { begin, finish, node, calls } = await setUp();
    const name = await begin(`/nodes/n1/${action}`);
    node('n1', { annotations: VETO });
    expect(await finish(name)).toMatchObject(refused);
    expect(calls).toEqual([]);
  });

  test('a refusal that is over in a moment does not end the operation: the replicas do not see everything at the same time', async () => {
    const { begin, status, lead, node, calls } = await setUp();
    const name = await begin('/nodes/n1/restart');
    node('n1', { annotations: VETO });
    cleaning.after(lead());
    await eventually('it to be about to call', () => status(name).phase === 'Restarting');
    node('n1');
    await eventually('the end', () => status(name).phase === 'Succeeded');
    expect(calls).toEqual(['restart soft n1']);
  });

  test('a veto that came while the node was drained; the node is given back', async () => {
    const { begin, finish, node, calls, api } = await setUp();
    const name = await begin('/nodes/n1/restart?drain=true');
    node('n1', { annotations: VETO });
    expect(await finish(name)).toMatchObject(refused);
    expect(calls).toEqual([]);
    expect(api.get(`${NODES}/n1`)?.spec).not.toHaveProperty('unschedulable');
  });

  test('one that was forced goes past what can be forced, as before', async () => {
    const { begin, finish, node, calls } = await setUp();
    const name = await begin('/nodes/n1/restart?force=true');
    node('n1', { annotations: VETO });
    expect(await finish(name)).toMatchObject({ phase: 'Succeeded' });
    expect(calls).toEqual(['restart soft n1']);
  });

  test('regression: a call that was never answered was repeated past a veto', async () => {
    const { begin, finish, leave, call, node, calls } = await setUp({ evidenceMs: 100 });
    const name = await begin('/nodes/n1/restart');
    leave(name, { phase: 'Restarting', calls: [call('RestartSoft', 'Unknown')] });
    node('n1', { annotations: VETO });
    expect(await finish(name)).toMatchObject({ phase: 'Failed', reason: 'GuardRefused' });
    expect(calls).toEqual([]);
  });

  test('a machine that the operation has stopped is started, whatever guards say by now', async () => {
    const { begin, finish, leave, call, node, calls, power } = await setUp({}, false);
    const name = await begin('/nodes/n1/restart?hard=true');
    power.set('n1', 'Stopped');
    leave(name, { phase: 'Stopping', calls: [call('StopHard', 'Accepted')] });
    node('n1', { annotations: VETO });
    expect(await finish(name)).toMatchObject({ phase: 'Succeeded' });
    expect(calls).toEqual(['start n1']);
  });
});

describe('a machine that is as it shall be', () => {
  test('regression: stopping a stopped machine failed in clouds that refuse that', async () => {
    const { begin, finish, calls, power } = await setUp();
    power.set('n1', 'Stopped');
    expect(await finish(await begin('/nodes/n1/stop'))).toMatchObject({
      phase: 'Succeeded',
      message: 'the cloud says that the machine is stopped',
    });
    expect(calls).toEqual([]);
  });

  test('a start of a running machine whose node is Ready is done', async () => {
    const { begin, finish, calls } = await setUp();
    expect(await finish(await begin('/nodes/n1/start'))).toMatchObject({ phase: 'Succeeded', message: 'the machine was running already' });
    expect(calls).toEqual([]);
  });

  test('regression: a start of a running machine whose node is not Ready waited for a boot that could not come', async () => {
    const { begin, finish, calls, node } = await setUp();
    node('n1', { ready: false });
    expect(await finish(await begin('/nodes/n1/start'))).toMatchObject({
      phase: 'Failed',
      reason: 'MachineRunning',
      message: expect.stringContaining('kubectl restart n1'),
    });
    expect(calls).toEqual([]);
  });
});

describe('a hard restart by stop and start that ends in between', () => {
  test('regression: when the stop outlasted the timeout, nothing said that the machine stays off and how to start it', async () => {
    const { begin, finish, calls, power } = await setUp({}, false);
    const set = power.set.bind(power);
    power.set = (instance, state) => set(instance, state === 'Stopped' ? 'Stopping' : state);
    expect(await finish(await begin('/nodes/n1/restart?hard=true&timeoutSeconds=1'))).toMatchObject({
      phase: 'Failed',
      reason: 'StopTimeout',
      message:
        'the cloud says Stopping, not Stopped, after the timeout; the machine stays off until it is started: kubectl infra start n1, once kubectl infra instance n1 says Stopped',
    });
    expect(calls).toEqual(['stop hard n1']);
  });

  test('a stop of its own says nothing of starting', async () => {
    const { begin, finish, power } = await setUp();
    const set = power.set.bind(power);
    power.set = (instance, state) => set(instance, state === 'Stopped' ? 'Stopping' : state);
    const { reason, message } = await finish(await begin('/nodes/n1/stop?timeoutSeconds=1'));
    expect([reason, message]).toEqual(['StopTimeout', 'the cloud says Stopping, not Stopped, after the timeout']);
  });
});

test('guards are not asked by a copy of the nodes that is not followed: the call waits for it', async () => {
  const { begin, finish, api, errors, calls } = await setUp();
  const name = await begin('/nodes/n1/restart?timeoutSeconds=1');
  api.fault(({ path, query }) => (path === NODES && query.get('watch') ? { code: 503 } : undefined));
  api.endWatches();
  await eventually('trouble', () => errors.some((error) => String(error).includes('fault 503')));
  cleaning.after(clockAhead(6_000));
  expect(await finish(name)).toMatchObject({ phase: 'Failed', reason: 'NodesUnknown' });
  expect(calls).toEqual([]);
});
