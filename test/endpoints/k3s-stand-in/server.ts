import { appendFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { parse, stringify } from 'yaml';
import { certificates } from './certificates.ts';
import { minorOf, type Place, put, readState, writeState } from './state.ts';

const CONFIG = '/etc/rancher/k3s';

/** `k3s server`: reads its configuration, makes what is missing, and answers until it is told to end. */
export async function serve(place: Place): Promise<void> {
  const { at, version, faults } = place;
  if (faults.includes(`server ${version}`)) {
    process.stderr.write(`time="now" level=fatal msg="the stand-in ${version} was told to fail"\n`);
    process.exit(1);
  }
  const config = (parse(readFileSync(at(`${CONFIG}/config.yaml`), 'utf8')) ?? {}) as Record<string, unknown>;
  const state = readState(place);
  if (state.schema > minorOf(version)) {
    process.stderr.write(`time="now" level=fatal msg="the datastore was written by a newer version"\n`);
    process.exit(1);
  }
  writeState(place, { ...state, schema: minorOf(version) });
  leaveTraces(place, config);

  const names = Array.isArray(config['tls-san']) ? config['tls-san'].map(String) : [];
  const made = certificates(place, names);
  const server = createServer(
    {
      key: made.serving.key,
      cert: made.serving.cert + made.server.cert,
      ca: made.client.cert,
      requestCert: true,
      rejectUnauthorized: true,
    },
    (request, response) => {
      const answer = (status: number, body: unknown) => {
        response.writeHead(status, { 'content-type': 'application/json' });
        response.end(JSON.stringify(body));
      };
      const path = request.url?.split('?')[0];
      if (path === '/readyz') answer(200, 'ok');
      else if (path === '/version') answer(200, { gitVersion: version });
      else if (path === '/api/v1/nodes') answer(200, { items: [node(place, config)] });
      else answer(404, { kind: 'Status', code: 404 });
    },
  );
  server.listen(0, '127.0.0.1', () => {
    const { port } = server.address() as AddressInfo;
    const base64 = (text: string) => Buffer.from(text).toString('base64');
    const kubeconfig = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [
        { name: 'default', cluster: { server: `https://127.0.0.1:${port}`, 'certificate-authority-data': base64(made.server.cert) } },
      ],
      users: [{ name: 'default', user: { 'client-certificate-data': base64(made.admin.cert), 'client-key-data': base64(made.admin.key) } }],
      contexts: [{ name: 'default', context: { cluster: 'default', user: 'default' } }],
      'current-context': 'default',
    };
    put(at(`${CONFIG}/k3s.yaml`), stringify(kubeconfig), 0o600);
  });
  await new Promise((resolve) => {
    process.once('SIGTERM', resolve);
    // A test run that was killed ends nothing: then it ends by itself.
    const owner = Number(process.env['K3S_STAND_IN_OWNER']);
    if (owner > 0) setInterval(() => alive(owner) || resolve(undefined), 1_000);
  });
  process.exit(0);
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

function node(place: Place, config: Record<string, unknown>) {
  const { version, faults } = place;
  const { unschedulable, applied } = readState(place);
  const network = config['flannel-backend'] !== 'none' || applied.length > 0;
  const ready = network && !faults.includes(`node ${version}`);
  const message = network ? 'the stand-in was told to fail' : 'container runtime network not ready: cni plugin not initialized';
  return {
    metadata: { name: config['node-name'] },
    spec: { ...(unschedulable && { unschedulable }) },
    status: {
      nodeInfo: { kubeletVersion: version },
      conditions: [{ type: 'Ready', status: ready ? 'True' : 'False', message: ready ? '' : message }],
    },
  };
}

/** What a running k3s leaves on a machine besides its data. */
function leaveTraces({ at }: Place, config: Record<string, unknown>): void {
  put(at('/var/lib/rancher/k3s/server/token'), 'K10stand-in::server:0000\n', 0o600);
  put(at('/var/lib/rancher/k3s/server/cred/passwd'), 'stand-in\n', 0o600);
  put(at('/etc/rancher/node/password'), 'stand-in\n', 0o600);
  for (const folder of ['/var/lib/kubelet/pods', '/var/lib/cni/networks', '/var/log/pods', '/var/log/containers', '/run/k3s/containerd']) {
    mkdirSync(at(folder), { recursive: true });
  }
  put(at('/run/flannel/subnet.env'), `FLANNEL_NETWORK=${String(config['cluster-cidr'])}\n`, 0o644);
  put(at('/proc/sys/vm/overcommit_memory'), '1\n', 0o644);
  const devices = existsSync(at('/proc/net/dev')) ? readFileSync(at('/proc/net/dev'), 'utf8') : '';
  for (const name of ['cni0', 'flannel.1']) if (!devices.includes(`${name}:`)) appendFileSync(at('/proc/net/dev'), `${name}: 0\n`);
}
