import { expect, test } from 'vitest';
import { startHub } from '../lab/hub.ts';
import { publishEndpoint } from '../lab/hub-objects.ts';
import { waitFor } from '../lab/wait.ts';
import { begin, ended } from '../support/operations.ts';
import { API, GROUP, type HubEnv } from './env.ts';
import { shownCertificate } from './shown-certificate.ts';
import { events, nextEvent, openStream } from './stream.ts';
import { startTraffic } from './traffic.ts';

const PORT_NAME = 'https';
const APISERVICE = `v1.${GROUP}`;

/** Replicas that stop, die and come back. */
export function outageTests(env: HubEnv): void {
  /** Plays the endpoint controller: takes a replica out of the Service when its readiness fails. */
  async function takeOutWhenNotReady(index: number): Promise<void> {
    const replica = env.hub.replica(index);
    const probe = await env.hub.client(index);
    await waitFor(
      async () => {
        const { status, text } = await probe.request('GET', '/readyz');
        return status === 500 && text.includes('[-]shutdown failed');
      },
      { what: `hub-${index} to say that it is not ready`, timeout: 5_000, interval: 20 },
    );
    await publishEndpoint(env.lab, replica, PORT_NAME, false);
  }

  /** kube-apiserver learns of endpoints by a watch of its own: until then it may still lead to the one that is gone. With a dead one among two, 12 answers in a row are chance once in 4,096. */
  async function goneForApiServer(): Promise<void> {
    let inARow = 0;
    await waitFor(
      async () => {
        const { status } = await env.lab.api.request('GET', `${API}/nodes`);
        inARow = status === 200 ? inARow + 1 : 0;
        return inARow === 12;
      },
      { what: 'kube-apiserver to lead to the replica that is left only', interval: 0 },
    );
  }

  async function namespaceWithContent(name: string): Promise<void> {
    await env.kubectl(['create', 'namespace', name]);
    await env.kubectl(['create', 'configmap', 'content', '-n', name, '--from-literal=a=b']);
  }

  test('SIGTERM to the leader under load: no failed request, the watch ends in order, the other replica leads within 2 s', async () => {
    const leader = await env.hub.waitForLeader();
    const other = 1 - leader;
    const replica = env.hub.replica(leader);
    const token = await env.lab.serviceAccountToken(env.hub.namespace, 'fairlead-hub');
    await env.kubectl([
      'create',
      'clusterrolebinding',
      'watcher',
      '--clusterrole=fairlead-node-viewer',
      `--serviceaccount=${env.hub.namespace}:fairlead-hub`,
    ]);
    const options = { ca: await env.hub.caBundle(), servername: `${env.hub.serviceName}.${env.hub.namespace}.svc` };
    const watch = await waitFor(
      async () => {
        const stream = await openStream(env, `${API}/nodes?watch=true`, {
          server: replica.url,
          options,
          headers: { authorization: `Bearer ${token}` },
        });
        return stream.status === 200 && stream;
      },
      { what: 'the watch to be allowed', timeout: 20_000, interval: 500 },
    );
    await nextEvent(watch, 'every node', () => events(watch).length >= 5);

    const load = startTraffic(env, 4);
    let stopped: Awaited<ReturnType<typeof load.stop>> | undefined;
    try {
      await waitFor(() => load.total > 20, { what: 'the load to run' });
      const asked = performance.now();
      const gone = replica.process?.stop('SIGTERM', 30_000);
      await takeOutWhenNotReady(leader);
      await waitFor(async () => (await env.hub.leader()) === other, { what: 'the other replica to lead', timeout: 10_000, interval: 20 });
      expect(performance.now() - asked, 'milliseconds until the other replica leads').toBeLessThan(2_000);
      await gone;
      const sofar = load.total;
      await waitFor(() => load.total > sofar + 20, { what: 'the load to go on' });
    } finally {
      stopped = await load.stop();
      watch.close();
    }
    expect(stopped.failures).toEqual([]);
    expect(await replica.process?.exited).toEqual({ code: 0, signal: null });
    expect(watch.ended()).toBe(true);
    expect(watch.broken()).toBe(false);
    await env.hub.start(leader);
  });

  test('one of two replicas is killed: requests, operations and namespace deletion go on', async () => {
    const victim = 1 - (await env.hub.waitForLeader());
    await env.hub.kill(victim);
    await goneForApiServer();
    const load = startTraffic(env, 4);
    let stopped: Awaited<ReturnType<typeof load.stop>> | undefined;
    try {
      const operation = await ended(env.lab, await begin(env.lab, env.lab.node(2)));
      expect(operation.status.phase).toBe('Succeeded');
      await namespaceWithContent('while-one-is-down');
      await env.kubectl(['delete', 'namespace', 'while-one-is-down', '--timeout=30s']);
      await env.hub.waitForAvailable();
    } finally {
      stopped = await load.stop();
    }
    expect(stopped.failures).toEqual([]);
    expect(stopped.total).toBeGreaterThan(20);
    await env.hub.start(victim);
  });

  test('kube-apiserver restarts: the hub goes on by itself, and an old watch is told 410', async () => {
    await env.lab.restartApiServer();
    await env.hub.waitForAvailable();
    const stream = await waitFor(() => openStream(env, `${API}/nodes?watch=true&resourceVersion=1`), { what: 'the watch to be answered' });
    try {
      const error = await nextEvent(stream, 'an error', ({ type }) => type === 'ERROR');
      expect(error.object).toMatchObject({ kind: 'Status', code: 410, reason: 'Expired' });
      await waitFor(() => stream.ended(), { what: 'the watch to end, so that the client lists again' });
    } finally {
      stream.close();
    }
    const name = await begin(env.lab, env.lab.node(3));
    expect((await ended(env.lab, name)).status.phase).toBe('Succeeded');
  });

  // Kubernetes keeps a namespace until every group of the API could be asked what it has in it, so no hub can do better than this while all of it is down.
  test('all replicas down: the content of namespaces goes, the namespaces go without the APIService or with the first replica, and all is well again', async () => {
    await Promise.all([env.hub.kill(0), env.hub.kill(1)]);
    await waitFor(async () => (await env.lab.api.request('GET', API)).status === 503, { what: 'kube-apiserver to answer 503' });
    const status = async () =>
      (await env.kubectl(['get', 'apiservice', APISERVICE, '-o', 'jsonpath={.status.conditions[?(@.type=="Available")].status}'])).trim();
    await waitFor(async () => (await status()) === 'False', { what: 'the APIService to be unavailable' });
    expect((await env.lab.kubectl(['get', `nodes.${GROUP}`])).code).toBe(1);
    expect(await env.kubectl(['get', 'nodes', '-o', 'name'])).toContain('worker-1');

    await namespaceWithContent('while-all-are-down');
    await env.kubectl(['delete', 'namespace', 'while-all-are-down', '--wait=false']);
    const content = '/api/v1/namespaces/while-all-are-down/configmaps/content';
    await waitFor(async () => (await env.lab.api.request('GET', content)).status === 404, { what: 'the content to be deleted' });

    // What the runbook says for a long outage.
    const names = env.hub.apiServices;
    const read = async (name: string) => JSON.parse(await env.kubectl(['get', 'apiservice', name, '-o', 'json'])) as { spec: object };
    const apiServices = await Promise.all(names.map(read));
    await env.kubectl(['delete', 'apiservice', ...names]);
    await waitFor(async () => (await env.lab.api.request('GET', '/api/v1/namespaces/while-all-are-down')).status === 404, {
      what: 'the namespace to be deleted without the APIServices',
      timeout: 60_000,
      interval: 200,
    });
    const items = apiServices.map(({ spec }, at) => ({
      apiVersion: 'apiregistration.k8s.io/v1',
      kind: 'APIService',
      metadata: { name: names[at] },
      spec,
    }));
    await env.kubectl(['apply', '-f', '-'], { input: JSON.stringify({ apiVersion: 'v1', kind: 'List', items }) });

    await namespaceWithContent('until-one-is-back');
    await env.kubectl(['delete', 'namespace', 'until-one-is-back', '--wait=false']);
    await env.hub.start(0);
    await env.hub.waitForAvailable();
    await env.kubectl(['wait', '--for=delete', 'namespace/until-one-is-back', '--timeout=90s']);
    await env.hub.start(1);
    expect(await env.kubectl(['get', `nodes.${GROUP}`, '-o', 'name'])).toContain('worker-1');
  });

  test('certificates from files are swapped under load without a failed request', async () => {
    await Promise.all([env.hub.kill(0, 'SIGTERM'), env.hub.kill(1, 'SIGTERM')]);
    const hub = await startHub(env.lab, { replicas: 1, certificates: 'files', flags: ['--restart-cooldown=0', '--shutdown-delay=0s'] });
    await waitFor(async () => (await env.lab.api.request('GET', API)).status === 200, { what: 'kube-apiserver to reach the new hub' });
    const load = startTraffic(env, 4);
    let stopped: Awaited<ReturnType<typeof load.stop>> | undefined;
    try {
      for (let turn = 0; turn < 3; turn++) {
        const old = await servedSerial(hub.replica(0));
        hub.rotateCertificate();
        await waitFor(async () => (await servedSerial(hub.replica(0))) !== old, {
          what: 'the new certificate to be served',
          timeout: 10_000,
          interval: 100,
        });
        const sofar = load.total;
        await waitFor(() => load.total > sofar + 20, { what: 'requests after the swap' });
      }
    } finally {
      stopped = await load.stop();
    }
    expect(stopped.failures).toEqual([]);
    await hub.waitForAvailable();
    await hub.stop();
  });
}

const servedSerial = async (replica: { ip: string; port: number }) => (await shownCertificate(replica)).serialNumber;
