import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { PassThrough, Writable } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { targetPools } from '../../src/tunnel/target-pools.ts';
import type { Answer } from '../../src/tunnel/upstream.ts';
import { cleanUp } from '../support/clean-up.ts';

const clean = cleanUp();

/** How long the caller's side lives on after the request began, in turns of the event loop. */
test.each([0, 1, 2, 3, 10])('a body whose caller resets after %i turns ends its request, never the process', async (turns) => {
  const server = createServer((request, response) => {
    request.on('error', () => undefined).resume();
    request.once('end', () => response.end('whole'));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  clean.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const pools = targetPools();
  clean.after(() => pools.close());
  const body = new PassThrough();
  body.on('error', () => undefined);
  let answered = false;
  const failed = new Promise<Error>((resolve) => {
    const answer: Answer = {
      head() {
        answered = true;
        return new Writable({ write: (_chunk, _encoding, done) => done() });
      },
      trailers: () => undefined,
      fail: resolve,
    };
    const route = {
      key: 'child',
      name: 'the child',
      connect: () => Promise.resolve(connect({ port, host: '127.0.0.1' }).on('error', () => undefined)),
    };
    const head = { method: 'POST', scheme: 'http' as const, authority: 'child', path: '/', headers: ['host', 'child'] };
    pools.exchange(route, head, { stream: body, trailers: () => [] }, answer);
  });
  body.write('half');
  for (let at = 0; at < turns; at++) await turn();
  body.destroy(new Error('reset by the caller'));
  expect((await failed).message).toContain('reset by the caller');
  expect(answered).toBe(false);
});
