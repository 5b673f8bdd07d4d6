import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import { waitFor } from '../lab/wait.ts';
import { begin, ended } from '../support/operations.ts';
import { API, GROUP, type HubEnv } from './env.ts';
import { events, nextEvent, openStream } from './stream.ts';

const TABLE = 'application/json;as=Table;v=v1;g=meta.k8s.io';

/** Watches by plain HTTPS, by kubectl get -w and by kubectl wait. */
export function watchingTests(env: HubEnv): void {
  /** Runs kubectl until `enough` of its lines have come, and gives them. */
  async function kubectlLines(
    args: readonly string[],
    act: () => Promise<void>,
    enough: (lines: readonly string[]) => boolean,
  ): Promise<string[]> {
    const child = spawn(join(env.lab.bin, 'kubectl'), [...args], { env: env.lab.commandEnv(), stdio: ['ignore', 'pipe', 'pipe'] });
    const lines: string[] = [];
    createInterface({ input: child.stdout }).on('line', (line) => lines.push(line));
    createInterface({ input: child.stderr }).on('line', (line) => lines.push(line));
    const exited = new Promise((resolve) => child.once('exit', resolve));
    try {
      await act();
      await waitFor(() => enough(lines), { what: `kubectl ${args.join(' ')} to print what is expected; so far ${JSON.stringify(lines)}` });
      return lines;
    } finally {
      child.kill('SIGKILL');
      await exited;
    }
  }

  test('a watch begins with what is there and says when that was all (sendInitialEvents)', async () => {
    const query = 'watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true';
    const stream = await openStream(env, `${API}/nodes?${query}`);
    try {
      expect(stream.status).toBe(200);
      const bookmark = await nextEvent(stream, 'that the initial events are over', ({ type }) => type === 'BOOKMARK');
      expect(bookmark.object.kind).toBe('InfraNode');
      expect(bookmark.object.metadata.annotations).toEqual({ 'k8s.io/initial-events-end': 'true' });
      const added = events(stream).filter(({ type }) => type === 'ADDED');
      expect(added.map(({ object }) => object.metadata.name).sort()).toEqual(env.lab.nodes.map(({ name }) => name).sort());
      expect(added.every(({ object }) => object.kind === 'InfraNode')).toBe(true);
    } finally {
      stream.close();
    }
  });

  test('a watch from a resourceVersion tells what changed since, in our view', async () => {
    const { metadata } = await env.lab.api.json<{ metadata: { resourceVersion: string } }>('GET', `${API}/nodes?limit=1`);
    const { name } = env.lab.node(3);
    await env.kubectl(['cordon', name]);
    const stream = await openStream(env, `${API}/nodes?watch=1&resourceVersion=${metadata.resourceVersion}`);
    try {
      const modified = await nextEvent(stream, 'the cordon', ({ object }) => object.spec?.['unschedulable'] === true);
      expect(modified).toMatchObject({ type: 'MODIFIED', object: { metadata: { name } } });
      await env.kubectl(['uncordon', name]);
      await nextEvent(
        stream,
        'the end of the cordon',
        ({ object }) => object.metadata.name === name && object.spec?.['unschedulable'] !== true,
      );
    } finally {
      stream.close();
    }
  });

  test.each(['watch=True', 'watch=1', 'watch='])(
    '%s is a watch, as for kube-apiserver: the Python client writes it with a capital',
    async (query) => {
      const stream = await openStream(env, `${API}/nodes?${query}`);
      try {
        await nextEvent(stream, 'every node', () => events(stream).length >= 5);
        expect(stream.headers['transfer-encoding']).toBe('chunked');
        expect(stream.ended()).toBe(false);
      } finally {
        stream.close();
      }
      const list = await env.lab.api.json<{ kind: string }>('GET', `${API}/nodes?watch=False`);
      expect(list.kind).toBe('InfraNodeList');
    },
  );

  test('a watch ends after timeoutSeconds', async () => {
    const stream = await openStream(env, `${API}/nodeoperations?watch=true&timeoutSeconds=1`);
    await waitFor(() => stream.ended(), { what: 'the watch to end by itself', timeout: 10_000 });
    expect(stream.broken()).toBe(false);
  });

  test('a watch by field selector tells of operations that come into the selection', async () => {
    const stream = await openStream(
      env,
      `${API}/nodeoperations?watch=true&fieldSelector=${encodeURIComponent('status.phase=Succeeded,spec.nodeName=worker-1')}`,
    );
    try {
      const other = await begin(env.lab, env.lab.node(2));
      await ended(env.lab, other);
      const name = await begin(env.lab, env.lab.node(1));
      const event = await nextEvent(stream, `the end of ${name}`, ({ object }) => object.metadata.name === name);
      expect(event).toMatchObject({
        type: 'ADDED',
        object: { kind: 'NodeOperation', spec: { nodeName: 'worker-1' }, status: { phase: 'Succeeded' } },
      });
      expect(events(stream).some(({ object }) => object.metadata.name === other)).toBe(false);
    } finally {
      stream.close();
    }
  });

  test('a watch as Tables has the columns in its first event only', async () => {
    const stream = await openStream(env, `${API}/nodes?watch=true`, { headers: { accept: TABLE } });
    try {
      await nextEvent(stream, 'every node', () => events(stream).length >= 5);
      const [first, ...others] = events(stream).map(({ object }) => object);
      expect(first?.kind).toBe('Table');
      expect(first?.columnDefinitions?.map(({ name }) => name)).toContain('Instance');
      expect(others.every(({ columnDefinitions }) => columnDefinitions === null)).toBe(true);
    } finally {
      stream.close();
    }
  });

  test('kubectl get -w follows an operation to its end', async () => {
    let name = '';
    const lines = await kubectlLines(
      ['get', 'nodeoperations', '-w', '--output-watch-events'],
      async () => {
        name = await begin(env.lab, env.lab.node(4));
      },
      (printed) => printed.some((line) => line.includes(name) && line.includes('Succeeded')),
    );
    const phases = lines.filter((line) => line.includes(name)).map((line) => line.split(/\s+/)[4]);
    expect(lines[0]).toMatch(/^EVENT +NAME +NODE +ACTION +PHASE +REQUESTED-BY +AGE/);
    expect(phases).toContain('WaitingForReady');
    expect(phases.at(-1)).toBe('Succeeded');
  });

  test('kubectl wait sees the phase of an operation and the readiness of a node', async () => {
    const name = await begin(env.lab, env.lab.node(1));
    const waited = await env.kubectl(['wait', '--for=jsonpath={.status.phase}=Succeeded', `nodeoperation/${name}`, '--timeout=30s']);
    expect(waited).toBe(`nodeoperation.${GROUP}/${name} condition met\n`);
    await env.kubectl(['wait', '--for=jsonpath={.status.ready}=True', `nodes.${GROUP}/worker-1`, '--timeout=30s']);
    const never = await env.lab.kubectl(['wait', '--for=jsonpath={.status.phase}=Failed', `nodeoperation/${name}`, '--timeout=1s']);
    expect(never).toMatchObject({ code: 1, stderr: expect.stringContaining('timed out waiting') });
  });
}
