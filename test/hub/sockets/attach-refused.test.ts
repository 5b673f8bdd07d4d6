import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { Registry } from 'prom-client';
import { expect, test } from 'vitest';
import { toStatusError } from '../../../src/hub/http/errors.ts';
import type { TunnelEvent } from '../../../src/hub/sockets/attach.ts';
import type { Admit } from '../../../src/hub/sockets/gate.ts';
import { socketRoom } from '../../../src/hub/sockets/socket-room.ts';
import { tunnelDirectory } from '../../../src/hub/sockets/tunnel-directory.ts';
import { forbidden, unauthorized } from '../../../src/kube/status.ts';
import { attachPath, SOCKETS_API } from '../../../src/tunnel/protocol.ts';
import { cleanUp } from '../../support/clean-up.ts';
import { waitUntil } from '../../support/wait-until.ts';

const clean = cleanUp();
const ID = '6f1a2f0c-3f0e-4c0c-9a2b-6d1d2f3a4b5c';
const GOOD_KEY = 'dGhlIHNhbXBsZSBub25jZQ==';

/** A door with one cluster, and what the audit log would be told of upgrades. `x-test-refuse` of a request decides what admission throws. */
async function door() {
  const signal = clean.signal();
  const codes: number[] = [];
  const events: TunnelEvent[] = [];
  const registry = new Registry();
  const settings = { apiserverURL: undefined, childCA: undefined, childInsecure: false, credentialIDs: undefined };
  const room = socketRoom({
    directory: tunnelDirectory(),
    clusters: {
      find: (id) => (id === ID ? { id, name: 'edge', namespace: 'edge', ...settings } : undefined),
      synced: () => true,
      onChange: () => undefined,
      opened: () => undefined,
      takenOver: () => undefined,
    },
    peers: { find: () => undefined, connection: () => undefined, lastEnd: () => undefined, replicas: () => 1 },
    stillAllowed: async () => true,
    limits: { perUser: 10, perCluster: 10 },
    attach: { identity: 'hub-0', perSecond: 100 },
    registry,
    toStatus: (error) => toStatusError(error, () => undefined),
    upgraded: (_request, code) => void codes.push(code),
    onTunnel: (event) => void events.push(event),
    closing: signal,
    signal,
    onError: () => undefined,
  });
  const admit: Admit = async ({ headers }) => {
    if (headers['x-test-refuse'] === '401') throw unauthorized('nobody knows you');
    if (headers['x-test-refuse'] === '403') throw forbidden({}, 'not for you');
    return { user: { name: 'agent', uid: '', groups: [], extra: {} }, via: 'frontProxy' };
  };
  const server = createServer();
  server.on('upgrade', (request, socket, head) => room.upgrade(admit, request, socket, head));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  clean.after(async () => {
    await room.drain(0, Promise.resolve());
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return {
    codes,
    events,
    port,
    /** The whole answer as text. */
    async ask(line: string, ...headers: string[]): Promise<string> {
      const socket = connect({ port, host: '127.0.0.1' }).on('error', () => undefined);
      socket.write([`${line} HTTP/1.1`, 'Host: hub', 'Connection: Upgrade', ...headers, '', ''].join('\r\n'));
      return await text(socket);
    },
    async attached(result: string): Promise<number> {
      const { values } = (await registry.getSingleMetric('fairlead_hub_tunnel_attaches_total')?.get()) ?? { values: [] };
      return values.find(({ labels }) => labels['result'] === result)?.value ?? 0;
    },
  };
}

test.each([
  ['of ours', `POST ${attachPath(ID)}`, `POST ${attachPath('nobody')}`, ['Upgrade: fairlead/1']],
  [
    "of clusternet's",
    `GET ${SOCKETS_API}/sockets/${ID}`,
    `GET ${SOCKETS_API}/sockets/nobody`,
    ['Upgrade: websocket', 'Sec-WebSocket-Version: 13', `Sec-WebSocket-Key: ${GOOD_KEY}`],
  ],
])('an agent %s that is not let in is counted as refused, whoever refused it', async (_whose, known, unknown, headers) => {
  const to = await door();
  for (const code of ['401', '403']) expect(await to.ask(known, ...headers, `X-Test-Refuse: ${code}`)).toContain(`HTTP/1.1 ${code} `);
  expect(await to.ask(unknown, ...headers)).toContain('HTTP/1.1 404 ');
  expect(to.codes).toEqual([401, 403, 404]);
  expect([await to.attached('refused'), await to.attached('ok')]).toEqual([3, 0]);
});

test('a request that is not for a tunnel is not counted as an agent', async () => {
  const to = await door();
  expect(await to.ask(`GET ${SOCKETS_API}/sockets/${ID}/proxy/direct/x`, 'Upgrade: websocket')).toContain('HTTP/1.1 503 ');
  expect(await to.attached('refused')).toBe(0);
});

test.each([
  ['without a key', ['Sec-WebSocket-Version: 13'], /Key/],
  ['with a bad key', ['Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: short'], /Key/],
  ['of another version', ['Sec-WebSocket-Version: 99', `Sec-WebSocket-Key: ${GOOD_KEY}`], /Version/],
])('a WebSocket handshake %s is answered with a Status, and the audit log has that code, not 101', async (_what, headers, why) => {
  const to = await door();
  const answer = await to.ask(`GET ${SOCKETS_API}/sockets/${ID}`, 'Upgrade: websocket', ...headers);
  expect(answer).toContain('HTTP/1.1 400 ');
  expect(JSON.parse(answer.split('\r\n\r\n')[1] ?? '')).toMatchObject({ kind: 'Status', code: 400, message: expect.stringMatching(why) });
  expect(to.codes).toEqual([400]);
  expect([await to.attached('refused'), await to.attached('ok')]).toEqual([1, 0]);
});

test('the log can be told of each tunnel that comes and goes, and why', async () => {
  const to = await door();
  const socket = connect({ port: to.port, host: '127.0.0.1' }).on('error', () => undefined);
  const headers = ['Host: hub', 'Connection: Upgrade', 'Upgrade: fairlead/1', 'Fairlead-Instance: one', 'Fairlead-Version: 1.2'];
  socket.write([`POST ${attachPath(ID)} HTTP/1.1`, ...headers, '', ''].join('\r\n'));
  await waitUntil(() => to.events.length === 1, 'the tunnel to come');
  socket.resetAndDestroy();
  await waitUntil(() => to.events.length === 2, 'the tunnel to go');
  const tunnel = { cluster: ID, name: 'edge', protocol: 'fairlead', instance: 'one', agentVersion: '1.2' };
  expect(to.events).toEqual([
    { event: 'opened', ...tunnel },
    { event: 'ended', ...tunnel, reason: expect.any(String) },
  ]);
});
