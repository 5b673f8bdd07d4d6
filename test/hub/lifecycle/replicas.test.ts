import { randomUUID } from 'node:crypto';
import { duplexPair } from 'node:stream';
import { expect, test, vi } from 'vitest';
import type { RequestContext, Subresource } from '../../../src/hub/http/resource.ts';
import { lifecycleSubresources } from '../../../src/hub/lifecycle/subresources.ts';
import { targetFailure } from '../../../src/hub/sockets/target-failure.ts';
import { serviceUnavailable } from '../../../src/kube/status.ts';
import { acceptTunnel, connectTunnel } from '../../../src/tunnel/session.ts';
import { sessionUpstream } from '../../../src/tunnel/session-upstream.ts';
import { cleanUp } from '../../support/clean-up.ts';
import { kubeApi } from '../../support/kube-api.ts';
import { putSlice, type Replica, startReplica } from '../sockets/peers/replicas.ts';
import { agentEnd } from './agent-lab.ts';

const undo = cleanUp();
const eventually = <T>(check: () => T | Promise<T>) => vi.waitFor(check, { timeout: 15_000, interval: 5 });

/** Two replicas that know each other; the agent's tunnel ends in the second. */
async function replicas() {
  const api = await kubeApi();
  undo.after(() => api.close());
  const started: Replica[] = [];
  for (const name of ['hub-1', 'hub-2']) {
    const replica = await startReplica(api, name, { signal: undo.signal() });
    undo.after(() => replica.peers.close(0));
    putSlice(api, name, replica.peers.port);
    started.push(replica);
  }
  const [one, two] = started;
  if (!one || !two) throw new Error('no replicas');
  const errors: unknown[] = [];
  const end = agentEnd((error) => errors.push(error));
  const [near, far] = duplexPair();
  const accepted = acceptTunnel(far, Buffer.alloc(0), { serve: end.serve, onError: (error) => errors.push(error) });
  const tunnel = connectTunnel(near, Buffer.alloc(0));
  undo.after(() => {
    tunnel.destroy('the test is over');
    return accepted.closed;
  });
  const id = randomUUID();
  two.tunnels.set(id, sessionUpstream(tunnel, 'cluster edge'));
  await eventually(() => expect(one.peers.find(id)).toBeDefined());
  return { one, two, id, end, errors };
}

function subresource(replica: Replica, id: string, name: string, protocol = 'fairlead'): Subresource {
  const found = lifecycleSubresources({
    find: () => ({ id, name: 'edge' }),
    upstream: async () => {
      const upstream = replica.peers.find(id);
      if (!upstream) throw serviceUnavailable('its agent is away');
      return upstream;
    },
    protocol: () => protocol,
    failure: targetFailure,
  }).find((one) => one.name === name);
  if (!found) throw new Error(`no ${name}`);
  return found;
}

function context(subresource: string, verb: 'get' | 'create', body?: object, signal = new AbortController().signal): RequestContext {
  return {
    info: {
      kind: 'resource',
      path: '',
      verb,
      group: 'infraops.michael.io',
      version: 'v1',
      resource: 'clusters',
      name: 'edge',
      subresource,
      rest: '',
    },
    user: { name: 'jane', uid: 'u-1', groups: ['ops'], extra: { 'clusternet-token': ['a token of the child'] } },
    query: new URLSearchParams(),
    headers: {},
    auditID: 'audit-1',
    signal,
    body: async () => body,
    warn: () => undefined,
    annotate: () => undefined,
    allowed: async () => true,
  };
}

test('R47: a request at the replica without the tunnel is served by way of the one that has it, body and caller included', async () => {
  const { one, id, end, errors } = await replicas();
  const spec = { spec: { clusterType: 'kubeadm', clusterName: 'x'.repeat(500_000) } };
  const reply = await subresource(one, id, 'lifecycle').create?.handler(context('lifecycle', 'create', spec));
  expect(reply).toMatchObject({ code: 201, object: { kind: 'ClusterLifecycle', metadata: { name: 'edge' } } });
  const [asked] = end.asked;
  expect([asked?.method, asked?.path, JSON.parse(asked?.body ?? '')]).toEqual(['POST', '/api/v1alpha1/cluster', spec]);
  expect(asked?.headers['audit-id']).toBe('audit-1');
  // The credential of the child that the caller brought is for the child's API server, and stays here.
  expect(asked?.caller).toEqual({ name: 'jane', uid: 'u-1', groups: ['ops'], extra: {} });
  end.says(() => ({ code: 409, body: { kind: 'Status', reason: 'Conflict', message: 'Install runs', code: 409 } }));
  await expect(subresource(one, id, 'lifecycle').create?.handler(context('lifecycle', 'create', spec))).rejects.toMatchObject({
    status: { code: 409, message: 'Install runs', details: { name: 'edge' } },
  });
  expect(errors).toEqual([]);
});

test('a caller who gives up ends the request at the agent, through the other replica', async () => {
  const { one, id, end } = await replicas();
  end.says(() => 'hang');
  const gone = new AbortController();
  const asked = subresource(one, id, 'lifecycle').get?.handler(context('lifecycle', 'get', undefined, gone.signal));
  await eventually(() => expect(end.asked).toHaveLength(1));
  gone.abort(new Error('gone'));
  await expect(asked).rejects.toThrow('gone');
  await eventually(() => expect(end.asked[0]?.stream.closed).toBe(true));
});

test("a cluster of a clusternet agent has no API of its own: 409, and nothing is sent to a host named 'agent'", async () => {
  const { one, id, end } = await replicas();
  for (const name of ['lifecycle', 'kubeconfig', 'log', 'metrics', 'certs', 'audit']) {
    await expect(subresource(one, id, name, 'clusternet').get?.handler(context(name, 'get'))).rejects.toMatchObject({
      status: { code: 409, message: expect.stringContaining("clusternet's") },
    });
  }
  expect(end.asked).toEqual([]);
});
