import type { RequestListener } from 'node:http';
import type { Duplex } from 'node:stream';
import { expect, test } from 'vitest';
import { cleanUp } from '../../support/clean-up.ts';
import { eventually } from '../auth/eventually.ts';
import { get, secure, setUp } from './loopback-listener.ts';

const cleaning = cleanUp();

test('close: idle connections end at once, requests in flight may finish, what is left is cut after the grace', async () => {
  const held = Promise.withResolvers<void>();
  let inFlight = 0;
  const app: RequestListener = (incoming, response) => {
    inFlight++;
    if (incoming.url === '/held') held.promise.then(() => response.end('done')).catch(() => undefined);
  };
  const { listener, port } = await setUp(cleaning, app);
  const finished = get(port, '/held');
  const never = get(port, '/never').catch((error: Error) => error.message);
  await eventually('both are in flight', () => inFlight === 2);
  const idle = secure(port);
  await new Promise<void>((resolve) => idle.on('secureConnect', () => resolve()));
  idle.on('error', () => undefined);
  const began = performance.now();
  const closed = listener.close(400);
  held.resolve();
  expect(await finished).toBe(200);
  await closed;
  expect(performance.now() - began).toBeGreaterThan(350);
  expect(performance.now() - began).toBeLessThan(3_000);
  expect(await never).toMatch(/hang up|reset/);
});

/** A connection for several requests, one after the other. */
async function keepAlive(port: number) {
  let text = '';
  let closed = false;
  const socket = secure(port);
  cleaning.after(() => socket.destroy());
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
  });
  socket
    .on('error', () => undefined)
    .on('close', () => {
      closed = true;
    });
  await new Promise((resolve) => socket.once('secureConnect', resolve));
  return {
    ask: (path: string) => void socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`),
    socket,
    text: () => text,
    closed: () => closed,
  };
}

test('regression: no answer told clients to go, and a connection that was busy at the stop stayed until it was cut', async () => {
  const held = Promise.withResolvers<void>();
  const { listener, port } = await setUp(cleaning, (incoming, response) => {
    if (incoming.url === '/begun') response.write('begun');
    if (incoming.url === '/at-once') response.end('at once');
    else held.promise.then(() => response.end('done')).catch(() => undefined);
  });
  const [begun, silent, idle, next] = [await keepAlive(port), await keepAlive(port), await keepAlive(port), await keepAlive(port)];
  begun.ask('/begun');
  await eventually('the head of the first', () => begun.text().includes('begun'));
  silent.ask('/silent');
  for (const one of [idle, next]) one.ask('/at-once');
  await eventually('both answers', () => [idle, next].every((one) => one.text().endsWith('at once')));
  expect(idle.text()).toMatch(/\r\nConnection: keep-alive\r\n/i);
  listener.retire();
  next.ask('/at-once');
  await eventually('the end after the next answer', () => next.closed());
  expect(next.text()).toMatch(/\r\nConnection: close\r\n/i);
  expect(await get(port, '/at-once')).toBe(200);
  // Nobody has been told there, so it stays until the end.
  expect(idle.closed()).toBe(false);
  const began = performance.now();
  const closed = listener.close(30_000);
  await eventually('the end of what is idle', () => idle.closed());
  held.resolve();
  await closed;
  expect(performance.now() - began).toBeLessThan(5_000);
  await eventually('all ends', () => begun.closed() && silent.closed());
  expect(begun.text()).toMatch(/done\r\n0\r\n\r\n$/);
  expect(silent.text()).toMatch(/Connection: close[\s\S]*done/i);
});

test('regression: a stop cut an answer that was on its way to a slow client', async () => {
  const size = 24 << 20;
  const { listener, port } = await setUp(cleaning, (_request, response) => void response.end(Buffer.alloc(size, 'x')));
  const slow = await keepAlive(port);
  slow.ask('/');
  await eventually('its head', () => slow.text().length > 0);
  slow.socket.pause();
  const closed = listener.close(30_000);
  slow.socket.resume();
  await closed;
  await eventually('the end', () => slow.closed());
  expect(slow.text().length).toBeGreaterThan(size);
});

test('a connection that was upgraded is left to its taker', async () => {
  const taken: Duplex[] = [];
  const { listener, port } = await setUp(cleaning, undefined, undefined, {
    wants: () => true,
    take(_request, socket) {
      taken.push(socket);
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n');
    },
  });
  const upgraded = await keepAlive(port);
  upgraded.socket.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n');
  await eventually('the upgrade', () => upgraded.text().includes('101'));
  const closed = listener.close(30_000);
  taken[0]?.write('still here');
  await eventually('what was said after the stop', () => upgraded.text().endsWith('still here'));
  taken[0]?.end();
  await closed;
});
