import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type ClientHttp2Stream, constants, type ServerHttp2Stream } from 'node:http2';
import { connect, createServer, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { expect, test } from 'vitest';
import { cutStream, endedWhole } from '../../src/tunnel/cut.ts';
import { joinStreams } from '../../src/tunnel/join.ts';
import { acceptTunnel, connectTunnel } from '../../src/tunnel/session.ts';
import { cleanUp } from '../support/clean-up.ts';
import { waitUntil } from '../support/wait-until.ts';
import { countConnections, listen } from './agent-end.ts';

const clean = cleanUp();

/** Two ends of a TCP connection that both allow half close. */
async function ends(allowHalfOpen = true): Promise<[Socket, Socket]> {
  const server = createServer({ allowHalfOpen });
  countConnections(clean, server);
  const port = await listen(server);
  const arrived = once(server, 'connection');
  const one = connect({ port, host: '127.0.0.1', allowHalfOpen });
  clean.after(() => one.destroy());
  one.on('error', () => undefined);
  const [[other]] = (await Promise.all([arrived, once(one, 'connect')])) as [[Socket], unknown];
  return [one, other];
}
/** The two ends of a stream in a tunnel. */
async function streams(): Promise<[ClientHttp2Stream, ServerHttp2Stream]> {
  const [hub, agent] = await ends(false);
  const arrived = new Promise<ServerHttp2Stream>((resolve) => {
    acceptTunnel(agent, Buffer.alloc(0), {
      serve(stream) {
        stream.respond({ ':status': 200 });
        resolve(stream);
      },
      onError: () => undefined,
    });
  });
  const tunnel = connectTunnel(hub, Buffer.alloc(0));
  clean.after(() => tunnel.destroy('over'));
  const stream = tunnel.session.request({ ':method': 'POST', ':path': '/' }, { endStream: false });
  stream.on('error', () => undefined);
  return [stream, await arrived];
}
/** Also when it ends with an error. */
const closed = (stream: Duplex) => new Promise<void>((resolve) => stream.once('close', () => resolve()));
async function all(from: Duplex): Promise<Buffer> {
  const chunks: Buffer[] = [];
  from.on('data', (chunk: Buffer) => chunks.push(chunk));
  await once(from, 'end');
  return Buffer.concat(chunks);
}

test('bytes go both ways whole, and the end of one way leaves the other open', async () => {
  const [[left, a], [b, right]] = await Promise.all([ends(), ends()]);
  joinStreams(a, b);
  const [there, back] = [randomBytes(3 << 20), randomBytes(1 << 20)];
  const got = all(right);
  left.end(there);
  expect(there.equals(await got)).toBe(true);
  const answer = all(left);
  right.end(back);
  expect(back.equals(await answer)).toBe(true);
  await waitUntil(() => a.destroyed && b.destroyed, 'both to be closed');
});

test('who does not read stops the writer: no more is taken than fits in between', async () => {
  const [[left, a], [b, right]] = await Promise.all([ends(), ends()]);
  right.pause();
  joinStreams(a, b);
  const chunk = Buffer.alloc(1 << 20);
  for (let at = 0; at < 64; at++) left.write(chunk);
  await waitUntil(() => b.writableNeedDrain && a.isPaused(), 'the way to be full');
  expect(b.writableLength).toBeLessThan(2 << 20);
  right.resume();
  left.end();
  await once(
    right.on('data', () => undefined),
    'end',
  );
  expect(right.bytesRead).toBe(64 << 20);
});

test.each(['left', 'right'] as const)('a connection that breaks on the %s breaks on both sides of the join', async (side) => {
  const [[left, a], [b, right]] = await Promise.all([ends(), ends()]);
  joinStreams(a, b);
  const [broken, other] = side === 'left' ? [left, right] : [right, left];
  other.on('error', () => undefined).resume();
  left.write('x');
  await once(right.resume(), 'data').catch(() => undefined);
  const over = once(other, 'end');
  broken.resetAndDestroy();
  await over;
  await waitUntil(() => a.destroyed && b.destroyed, 'both to be given up');
});

test('a stream that is reset breaks the connection it is joined with', async () => {
  const [[hub, agent], [a, right]] = await Promise.all([streams(), ends()]);
  joinStreams(agent, a);
  right.resume().on('error', () => undefined);
  hub.write('half');
  await once(right, 'data');
  cutStream(hub);
  await waitUntil(() => a.destroyed, 'the connection to be given up');
});

test('a connection that breaks resets the stream it is joined with: it has not ended whole', async () => {
  const [[hub, agent], [a, right]] = await Promise.all([streams(), ends()]);
  joinStreams(agent, a);
  right.write('half');
  await once(hub, 'data');
  right.resetAndDestroy();
  await closed(hub);
  expect(hub.rstCode).not.toBe(constants.NGHTTP2_NO_ERROR);
  expect(endedWhole(hub)).toBe(false);
});

test('a stream that is cut is told from one that has ended', async () => {
  const [[cut, cutBy], [whole, wholeBy]] = await Promise.all([streams(), streams()]);
  cutBy.on('error', () => undefined);
  cutBy.write('half');
  await once(cut, 'data');
  cutStream(cutBy);
  cutStream(cutBy);
  await closed(cut.resume());
  expect(cut.rstCode).not.toBe(constants.NGHTTP2_NO_ERROR);
  expect(endedWhole(cut)).toBe(false);
  whole.end();
  const ended = once(whole.resume(), 'end').then(() => endedWhole(whole));
  wholeBy.resume().end('all');
  expect(await ended).toBe(true);
});
