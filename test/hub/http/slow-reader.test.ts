import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { request } from 'node:http';
import { expect, test } from 'vitest';
import { cleanUp } from '../../support/clean-up.ts';
import { eventually } from '../auth/eventually.ts';
import { bareApp } from './bare-app.ts';

const cleaning = cleanUp();

const ask = (port: number, path: string) =>
  new Promise<IncomingMessage>((resolve, reject) => {
    request({ host: '127.0.0.1', port, path: `/apis/g/v1/${path}`, agent: false }, (answer) => {
      answer.on('error', () => undefined);
      cleaning.after(() => answer.destroy());
      resolve(answer);
    })
      .on('error', reject)
      .end();
  });

test('regression: clients that did not read their answers kept their places for ever, and the hub answered nobody else', async () => {
  const big = JSON.stringify({ text: 'x'.repeat(24 << 20) });
  const { port } = await bareApp(cleaning, async ({ info }) => ({ json: info.name === 'big' ? big : '{}' }), { requestTimeoutMs: 400 });
  // Headers are read, the body never.
  for (let at = 0; at < 2; at++) await ask(port, 'r/big');
  const code = async () => (await ask(port, 'r/small')).resume().statusCode;
  expect(await code()).toBe(429);
  await eventually('room again', async () => (await code()) === 200, 5_000);
});

test.each([
  ['goes on', false],
  ['has ended', true],
])('regression: a client that did not read a stream kept its place for ever, when the stream %s', async (_, ends) => {
  let streams = 0;
  const { port } = await bareApp(
    cleaning,
    async () => ({
      async stream(_request, response) {
        if (streams++ > 0) return void response.end();
        response.write(Buffer.alloc(24 << 20));
        if (ends) response.end();
      },
    }),
    { requestTimeoutMs: 200 },
  );
  await ask(port, 'r?watch=true');
  const code = async () => (await ask(port, 'r?watch=true')).resume().statusCode;
  expect(await code()).toBe(429);
  await eventually('room again', async () => (await code()) === 200, 5_000);
});

test('a stream that says nothing for long, and one whose client reads slowly, are left alone', async () => {
  const { port } = await bareApp(
    cleaning,
    async ({ query, signal }) => ({
      async stream(_request, response) {
        response.flushHeaders();
        while (query.has('busy') && !signal.aborted) {
          if (!response.write(Buffer.alloc(128 << 10))) await once(response, 'drain', { signal }).catch(() => undefined);
        }
      },
    }),
    { requestTimeoutMs: 600, limits: { requests: 1, streams: 2, streamsPerUser: 2 } },
  );
  const quiet = (await ask(port, 'r?watch=true')).resume();
  const busy = await ask(port, 'r?watch=true&busy');
  let read = 0;
  const done = new Promise<void>((resolve, reject) => {
    const until = performance.now() + 4_000;
    busy.on('close', () => reject(new Error('it was cut')));
    busy.on('data', (chunk: Buffer) => {
      read += chunk.length;
      if (performance.now() > until) resolve();
      busy.pause();
      setTimeout(() => busy.resume(), 10);
    });
  });
  await done;
  expect(read).toBeGreaterThan(1 << 20);
  expect(quiet.destroyed).toBe(false);
});
