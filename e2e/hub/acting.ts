import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { waitFor } from '../lab/wait.ts';
import { begin, ended, expectReleased, getNode, type NodeOperation, type Status } from '../support/operations.ts';
import { API, GROUP, type HubEnv } from './env.ts';
import { openStream } from './stream.ts';

type AuditLine = {
  auditID: string;
  verb: string;
  requestURI: string;
  user: { username: string };
  responseStatus: { code: number };
  objectRef?: { name?: string; subresource?: string };
  annotations?: Record<string, string>;
};

/** Lines of the audit log, which goes to stdout and so into the log of the replica. */
export function auditLines(env: HubEnv, index = 0): AuditLine[] {
  const lines = readFileSync(env.hub.replica(index).log, 'utf8').split('\n');
  return lines
    .filter((line) => line.startsWith('{"kind":"Event"') || line.includes('"apiVersion":"audit.k8s.io/v1"'))
    .map((line) => JSON.parse(line) as AuditLine);
}

/** restart, stop, start and cancel. */
export function actingTests(env: HubEnv): void {
  const restartPath = (node: string) => `${API}/nodes/${node}/restart`;
  const reboots = (index: number) => env.lab.ec2.gate.count('RebootInstances', env.lab.node(index).instanceID);
  const post = async (path: string, body?: unknown, contentType?: string) => {
    const answer = await env.lab.api.request('POST', path, { ...(body !== undefined && { body }), ...(contentType && { contentType }) });
    return { status: answer.status, headers: answer.headers, object: JSON.parse(answer.text) as NodeOperation & Status };
  };

  afterEach(async () => {
    const { items } = await env.lab.api.json<{ items: NodeOperation[] }>('GET', `${API}/nodeoperations`);
    for (const { metadata } of items) await ended(env.lab, metadata.name);
    await env.lab.kubelet.idle();
  });

  test('kubectl create --raw .../restart -f /dev/null restarts the machine, once, and leaves Events, an audit line and metrics', async () => {
    const node = env.lab.node(1);
    const before = await getNode(env.lab, node.name);
    const rebootsBefore = reboots(1);
    const created = JSON.parse(await env.kubectl(['create', '--raw', restartPath(node.name), '-f', '/dev/null'])) as NodeOperation & {
      spec: { auditID: string; requestedBy: object };
    };
    expect(created).toMatchObject({
      kind: 'NodeOperation',
      spec: { nodeName: node.name, action: 'Restart' },
      status: { phase: 'Pending' },
    });
    expect(created.spec.requestedBy).toMatchObject({ username: 'fairlead-admin' });
    const { name } = created.metadata;
    const done = await ended(env.lab, name);
    expect(done.status).toMatchObject({ phase: 'Succeeded', reason: 'Done', bootIDBefore: before.status.nodeInfo.bootID });
    const after = await getNode(env.lab, node.name);
    expect(after.status.nodeInfo.bootID).not.toBe(before.status.nodeInfo.bootID);
    expect(done.status.bootIDAfter).toBe(after.status.nodeInfo.bootID);
    expect(reboots(1) - rebootsBefore).toBe(1);
    await expectReleased(env.lab, node);
    expect(JSON.parse(after.metadata.annotations?.[`${GROUP}/last-restart`] ?? '{}')).toMatchObject({
      operation: name,
      requestedBy: 'fairlead-admin',
    });

    const notes = async () => {
      const selector = `regarding.kind=Node,regarding.name=${node.name}`;
      const list = JSON.parse(
        await env.kubectl(['get', 'events.events.k8s.io', '-n', 'default', `--field-selector=${selector}`, '-o', 'json']),
      ) as { items: { reason: string; note: string; type: string }[] };
      return list.items.filter(({ note }) => note.startsWith(`${name}:`));
    };
    await waitFor(async () => (await notes()).length === 2, { what: 'two Events on the node' });
    expect((await notes()).map(({ reason }) => reason).sort()).toEqual(['RestartStarted', 'RestartSucceeded']);
    for (const { note, type } of await notes()) {
      expect(type).toBe('Normal');
      expect(note).toContain(`Audit-ID ${created.spec.auditID}`);
    }
    const [line, ...more] = auditLines(env).filter(({ auditID }) => auditID === created.spec.auditID);
    expect(more).toEqual([]);
    expect(line).toMatchObject({
      verb: 'create',
      user: { username: 'fairlead-admin' },
      responseStatus: { code: 201 },
      objectRef: { name: node.name, subresource: 'restart' },
      annotations: { [`${GROUP}/operation`]: name },
    });

    const scraper = await env.hub.client(0, { token: await env.lab.serviceAccountToken('default', 'scraper') });
    const metrics = (await scraper.request('GET', '/metrics')).text;
    expect(metrics).toMatch(/^fairlead_node_operations_total\{[^}]*action="Restart"[^}]*result="Succeeded"[^}]*\} [1-9]/m);
    expect(metrics).toMatch(/^fairlead_cloud_call_duration_seconds_count\{[^}]*call="restart",result="ok"[^}]*\} [1-9]/m);
    expect(metrics).toMatch(/^fairlead_node_operation_duration_seconds_count\{[^}]*\} [1-9]/m);
    expect(metrics).toMatch(/^fairlead_node_operations_active 0$/m);
  });

  test('options come as JSON, as YAML, without a Content-Type, or as query parameters', async () => {
    const before = env.lab.ec2.gate.calls().length;
    const json = await post(restartPath('worker-2'), { kind: 'RestartOptions', apiVersion: `${GROUP}/v1`, reason: 'as JSON', hard: true });
    expect(json).toMatchObject({ status: 201, object: { spec: { reason: 'as JSON', hard: true } } });
    // EC2 has no hard restart: it is a stop by force and a start.
    const { instanceID } = env.lab.node(2);
    const hard = await ended(env.lab, json.object.metadata.name);
    expect(hard.status).toMatchObject({ phase: 'Succeeded', calls: [{ action: 'StopHard' }, { action: 'Start' }] });
    const calls = env.lab.ec2.gate
      .calls()
      .slice(before)
      .filter(({ instanceIDs }) => instanceIDs.includes(instanceID));
    expect(calls.map(({ action, force }) => [action, force])).toEqual([
      ['StopInstances', true],
      ['StartInstances', false],
    ]);
    expect(await env.lab.ec2.state(instanceID)).toBe('running');
    const yaml = await post(restartPath('worker-2'), 'reason: as YAML\ntimeoutSeconds: 120\n', 'application/yaml');
    expect(yaml).toMatchObject({ status: 201, object: { spec: { reason: 'as YAML', timeoutSeconds: 120 } } });
    await ended(env.lab, yaml.object.metadata.name);
    const query = await post(`${restartPath('worker-2')}?reason=in%20the%20query&timeoutSeconds=90`);
    expect(query).toMatchObject({ status: 201, object: { spec: { reason: 'in the query', timeoutSeconds: 90 } } });
    await ended(env.lab, query.object.metadata.name);
    const file = join(env.lab.dir, 'options.json');
    writeFileSync(file, JSON.stringify({ reason: 'by kubectl' }));
    const raw = JSON.parse(await env.kubectl(['create', '--raw', restartPath('worker-2'), '-f', file])) as NodeOperation;
    expect(raw.spec).toMatchObject({ reason: 'by kubectl' });
  });

  test('bodies and parameters that make no sense are refused before anything happens', async () => {
    const before = env.lab.ec2.gate.calls().length;
    const path = restartPath('worker-3');
    for (const [what, status, message, answer] of [
      ['broken JSON', 400, 'not valid JSON', await post(path, '{', 'application/json')],
      ['another kind', 400, 'cannot be handled as a RestartOptions', await post(path, { kind: 'Pod' })],
      ['another version', 400, 'does not match the expected API version', await post(path, { apiVersion: 'v1' })],
      ['a wrong type', 400, 'cannot unmarshal', await post(path, { hard: 'yes' })],
      ['a list', 400, 'cannot', await post(path, [])],
      ['a bound', 422, 'timeoutSeconds', await post(path, { timeoutSeconds: 1e6 })],
      ['an unknown dry run', 422, 'dryRun', await post(path, { dryRun: ['Some'] })],
      ['a type that is not read', 415, 'unknown format', await post(path, 'x=1', 'application/x-www-form-urlencoded')],
      ['text for a flag', 400, 'true or false', await post(`${path}?force=flase`)],
      ['two different values', 400, 'in the query', await post(`${path}?reason=a`, { reason: 'b' })],
      ['too much', 413, 'limit', await post(path, `{"reason":"${'a'.repeat(3 << 20)}"}`)],
    ] as const) {
      expect({ status: answer.status, kind: answer.object.kind }, what).toEqual({ status, kind: 'Status' });
      expect(answer.object.message, what).toContain(message);
    }
    expect(await post(restartPath('no-such-node'))).toMatchObject({
      status: 404,
      object: { message: `nodes.${GROUP} "no-such-node" not found` },
    });
    expect((await env.lab.api.request('GET', path)).status).toBe(405);
    expect((await env.lab.api.request('DELETE', `${API}/nodes/worker-3`)).status).toBe(405);
    expect((await env.lab.api.request('POST', `${API}/nodes/worker-3/reinstall`)).status).toBe(404);
    expect(env.lab.ec2.gate.calls()).toHaveLength(before);
  });

  test('fieldValidation: unknown and duplicate fields are ignored, warned of, or refused', async () => {
    const path = `${restartPath('worker-3')}?dryRun=All`;
    const body = '{"reason":"a","reason":"b","colour":"red"}';
    const warned = await env.lab.kubectl(['create', '--raw', path, '-f', '-'], { input: body });
    expect(warned.code).toBe(0);
    expect(warned.stderr).toContain('Warning: unknown field "colour"');
    expect(warned.stderr).toContain('Warning: duplicate field "reason"');
    const ignored = await env.lab.kubectl(['create', '--raw', `${path}&fieldValidation=Ignore`, '-f', '-'], { input: body });
    expect(ignored).toMatchObject({ code: 0, stderr: '' });
    const strict = await env.lab.kubectl(['create', '--raw', `${path}&fieldValidation=Strict`, '-f', '-'], { input: body });
    expect(strict.code).toBe(1);
    expect(strict.stderr).toContain('strict decoding error: duplicate field "reason", unknown field "colour"');
    expect((await post(`${path}&fieldValidation=Loose`)).status).toBe(422);
  });

  test('a dry run asks every guard and the cloud, and changes nothing', async () => {
    const before = reboots(3);
    const dry = await post(`${restartPath('worker-3')}?dryRun=All`);
    expect(dry.status).toBe(200);
    const { guards } = dry.object.status as unknown as { guards: { guard: string; passed: boolean }[] };
    expect(guards.map(({ guard }) => guard)).toEqual(expect.arrayContaining(['AlreadyRunning', 'MaxNodesDown', 'Veto', 'CloudDryRun']));
    expect(guards.filter(({ passed }) => !passed)).toEqual([]);
    expect(reboots(3)).toBe(before);
    expect((await env.lab.api.request('GET', `${API}/nodeoperations/${dry.object.metadata.name}`)).status).toBe(404);
  });

  test('a guard refuses with 409, its evidence and what would clear it; kubectl prints it', async () => {
    const node = env.lab.node(3);
    await env.kubectl(['annotate', 'node', node.name, `${GROUP}/veto=a disk is being copied`]);
    try {
      const refused = await waitFor(
        async () => {
          const answer = await env.lab.kubectl(['create', '--raw', `${restartPath(node.name)}`, '-f', '/dev/null']);
          return answer.code !== 0 && answer;
        },
        { what: 'the hub to see the veto' },
      );
      expect(refused.stderr).toContain('Error from server (Conflict): Operation cannot be fulfilled');
      expect(refused.stderr).toContain('a disk is being copied');
      const { status, object } = await post(restartPath(node.name));
      expect(status).toBe(409);
      expect(object.details?.causes).toEqual([expect.objectContaining({ reason: 'GuardRefused', field: 'Veto' })]);
    } finally {
      await env.kubectl(['annotate', 'node', node.name, `${GROUP}/veto-`]);
    }
  });

  test('the same requestID gives the operation that is there already, also long after it has ended', async () => {
    const before = reboots(4);
    const first = await post(restartPath('worker-4'), { requestID: 'nightly-7' });
    expect(first.status).toBe(201);
    const again = await post(restartPath('worker-4'), { requestID: 'nightly-7' });
    expect(again).toMatchObject({ status: 200, object: { metadata: { name: first.object.metadata.name } } });
    await ended(env.lab, first.object.metadata.name);
    const later = await post(`${restartPath('worker-4')}?requestID=nightly-7`);
    expect(later).toMatchObject({
      status: 200,
      object: { metadata: { name: first.object.metadata.name }, status: { phase: 'Succeeded' } },
    });
    expect(reboots(4) - before).toBe(1);
  });

  test('stop and start', async () => {
    const node = env.lab.node(2);
    const stopped = await ended(env.lab, await begin(env.lab, node, {}, 'stop'));
    expect(stopped.status).toMatchObject({ phase: 'Succeeded', reason: 'Done' });
    expect(await env.lab.ec2.state(node.instanceID)).toBe('stopped');
    expect(await env.kubectl(['get', `nodes.${GROUP}`, node.name, '--subresource=instance', '-o', 'jsonpath={.status.powerState}'])).toBe(
      'Stopped',
    );
    const started = await ended(env.lab, await begin(env.lab, node, {}, 'start'));
    expect(started.status).toMatchObject({ phase: 'Succeeded' });
    expect(await env.lab.ec2.state(node.instanceID)).toBe('running');
  });

  test('cancel stops an operation before the cloud is called, and is 409 afterwards', async () => {
    const node = env.lab.node(1);
    const done = await begin(env.lab, node);
    await ended(env.lab, done);
    const late = await env.lab.kubectl(['create', '--raw', `${API}/nodeoperations/${done}/cancel`, '-f', '/dev/null']);
    expect(late).toMatchObject({ code: 1, stderr: expect.stringContaining('Error from server (Conflict)') });
    expect(late.stderr).toContain('it has ended: Succeeded');
    const held = env.lab.ec2.gate.inject({ action: 'RebootInstances', instanceID: node.instanceID, hold: 'after' });
    try {
      const name = await begin(env.lab, node);
      await waitFor(() => held.hits() > 0, { what: 'the call to reach the cloud' });
      const refused = await post(`${API}/nodeoperations/${name}/cancel`);
      expect(refused).toMatchObject({ status: 409, object: { message: expect.stringContaining('the cloud has been called already') } });
      held.release();
      expect((await ended(env.lab, name)).status.phase).toBe('Succeeded');
    } finally {
      held.remove();
    }
  });

  test("the log of a node has its operations' phases as lines, and follows them", async () => {
    const { name } = env.lab.node(4);
    const stream = await openStream(env, `${API}/nodes/${name}/log?follow=True&tailLines=0`);
    try {
      expect(stream.headers['content-type']).toContain('text/plain');
      const operation = await begin(env.lab, env.lab.node(4));
      await waitFor(() => stream.lines.some((line) => line.includes(`${operation} Succeeded`)), {
        what: 'the followed log to tell the end',
      });
      const phases = stream.lines.map((line) => line.split(' ')[2]);
      expect(phases).toEqual(['Pending', 'Restarting', 'WaitingForReady', 'Succeeded']);
      const only = await env.kubectl(['get', '--raw', `${API}/nodes/${name}/log?operation=${operation}`]);
      expect(only.trimEnd().split('\n')).toEqual(stream.lines);
      expect((await env.kubectl(['get', '--raw', `${API}/nodes/${name}/log?tailLines=1`])).trimEnd()).toBe(stream.lines.at(-1));
    } finally {
      stream.close();
    }
    expect((await env.lab.api.request('GET', `${API}/nodes/no-such-node/log`)).status).toBe(404);
    expect((await env.lab.api.request('GET', `${API}/nodes/${name}/log?follow=perhaps`)).status).toBe(400);
  });
}
