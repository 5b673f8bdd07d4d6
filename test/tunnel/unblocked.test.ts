import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { createServer as createTlsServer, type TLSSocket, connect as tlsConnect } from 'node:tls';
import { expect, test } from 'vitest';
import { SESSION_WINDOW } from '../../src/tunnel/protocol.ts';
import { acceptTunnel, connectTunnel } from '../../src/tunnel/session.ts';
import { unblocked } from '../../src/tunnel/unblocked.ts';
import { makeCa, makeServer } from '../hub/auth/pki.ts';
import { cleanUp } from '../support/clean-up.ts';
import { waitUntil } from '../support/wait-until.ts';

const clean = cleanUp();
async function ends(): Promise<{ near: Socket; far: Socket }> {
  const server = createServer({ allowHalfOpen: true });
  const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const near = connect((server.address() as AddressInfo).port, '127.0.0.1');
  const [far] = await Promise.all([accepted, new Promise<void>((resolve) => near.once('connect', resolve))]);
  server.close();
  clean.after(() => {
    near.destroy();
    far.destroy();
  });
  return { near, far };
}

test('bytes and ends pass in both directions, in order', async () => {
  const { near, far } = await ends();
  const outer = unblocked(near);
  far.pipe(far);
  const chunks: Buffer[] = [];
  outer.on('data', (chunk: Buffer) => chunks.push(chunk));
  const ended = new Promise<void>((resolve) => outer.once('end', () => resolve()));
  for (let at = 0; at < 100; at++) outer.write(Buffer.alloc(10_000, at));
  outer.end('last');
  await ended;
  const all = Buffer.concat(chunks);
  expect(all.length).toBe(1_000_004);
  for (let at = 0; at < 100; at++) expect(all.subarray(at * 10_000, (at + 1) * 10_000).every((byte) => byte === at)).toBe(true);
  expect(all.subarray(-4).toString()).toBe('last');
  await waitUntil(() => near.destroyed && outer.destroyed, 'both to close');
});

test('who does not read is not read further than buffers go', async () => {
  const { near, far } = await ends();
  const outer = unblocked(near);
  outer.pause();
  let taken = 0;
  const chunk = Buffer.alloc(65_536);
  const write = () => {
    taken += chunk.length;
    if (taken < 64 << 20) far.write(chunk, write);
  };
  write();
  let last = -1;
  let since = performance.now();
  await waitUntil(() => {
    if (last !== taken) [last, since] = [taken, performance.now()];
    return performance.now() - since > 300;
  }, 'the flow to stop');
  expect(taken).toBeLessThan(64 << 20);
  expect(outer.readableLength + near.readableLength).toBeLessThan(1 << 20);
});

test('who takes nothing is cut off before the memory is full', async () => {
  const { near, far } = await ends();
  far.pause();
  const outer = unblocked(near);
  let error: Error | undefined;
  outer.on('error', (failure) => {
    error = failure;
  });
  let written = 0;
  const chunk = Buffer.alloc(1 << 20);
  while (!near.destroyed && written < 4 * SESSION_WINDOW) {
    await new Promise<void>((resolve) => void outer.write(chunk, () => resolve()));
    written += chunk.length;
  }
  expect(near.destroyed).toBe(true);
  expect(written).toBeGreaterThan(2 * SESSION_WINDOW);
  expect(written).toBeLessThan(3 * SESSION_WINDOW);
  await waitUntil(() => outer.destroyed, 'the end');
  expect(error?.message).toBe('the other side takes nothing');
});

test.each(['near', 'outer', 'far'] as const)('the end of %s is the end of all', async (which) => {
  const { near, far } = await ends();
  const outer = unblocked(near);
  outer.on('error', () => undefined);
  far.on('error', () => undefined);
  ({ near, far, outer })[which].destroy();
  far.resume();
  await waitUntil(() => near.destroyed && (outer.destroyed || outer.readableEnded || which === 'far'), 'the end');
});

test('R38: streams that are full in both directions do not stop the session: bytes go both ways, and pings come back', async () => {
  const ca = makeCa('hub-ca');
  const keys = makeServer(ca);
  const server = createTlsServer({ cert: keys.cert, key: keys.key });
  const accepted = new Promise<TLSSocket>((resolve) => server.once('secureConnection', resolve));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const raw = connect((server.address() as AddressInfo).port, '127.0.0.1');
  const near = tlsConnect({ socket: unblocked(raw), ca: ca.cert, servername: 'localhost', ALPNProtocols: ['http/1.1'] });
  const [far] = await Promise.all([accepted, new Promise<void>((resolve) => near.once('secureConnect', resolve))]);
  server.close();
  clean.after(() => {
    near.destroy();
    far.destroy();
  });
  const chunk = Buffer.alloc(65_536);
  const got = { hub: 0, agent: 0 };
  const both = (stream: NodeJS.ReadWriteStream, who: 'hub' | 'agent') => {
    const more = () => {
      while (stream.writable && stream.write(chunk));
    };
    stream.on('error', () => undefined);
    stream.on('drain', more);
    stream.on('data', (bytes: Buffer) => {
      got[who] += bytes.length;
    });
    more();
  };
  const timing = { pingMs: 1_000, silenceMs: 4_000 };
  const agent = acceptTunnel(near, Buffer.alloc(0), {
    serve(stream) {
      stream.respond({ ':status': 200 });
      both(stream, 'agent');
    },
    onError: (error) => expect.unreachable(String(error)),
    ...timing,
  });
  const hub = connectTunnel(far, Buffer.alloc(0), timing);
  let why = '';
  hub.closed.then((reason) => {
    why = reason;
  }, expect.unreachable);
  const headers = { ':method': 'POST', ':path': '/', ':authority': 'direct', ':scheme': 'https' };
  for (let at = 0; at < 20; at++) both(hub.session.request(headers, { endStream: false }), 'hub');
  // Far more than the buffers of the line.
  await waitUntil(() => (got.hub > 40 << 20 && got.agent > 40 << 20) || why !== '', '40 MiB each way', 30_000);
  expect(why).toBe('');
  const before = [hub.heard(), agent.heard()] as const;
  await waitUntil(() => hub.heard() > before[0] && agent.heard() > before[1], 'signs of life');
  hub.destroy('enough');
  await waitUntil(() => raw.destroyed && far.destroyed, 'the end');
});
