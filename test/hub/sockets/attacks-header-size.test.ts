import { expect, test } from 'vitest';
import { cleanUp } from '../../support/clean-up.ts';
import { ANN, KINDS, startDoors } from './attack-pair.ts';

const clean = cleanUp();
const LINE = 'h'.repeat(1_000);
const lines = (name: string, count: number) => Array.from({ length: count }, (_, at) => `${name}-${at}: ${LINE}`);

/** Whether the tunnel is the one that it was. */
function watched(tunnel: { closed: Promise<string> }): () => string | undefined {
  let ended: string | undefined;
  tunnel.closed.then(
    (why) => {
      ended = why;
    },
    () => undefined,
  );
  return () => ended;
}

test('R32: an answer, or trailers, with 300 KB of headers end their request alone: the tunnel carries the others on', async () => {
  const { to, send } = await startDoors(clean, () => ANN, {
    child(got, response) {
      if (got.url === '/after') response.end('fine');
      else if (got.url === '/trailers') {
        response.writeHead(200, { trailer: 'x' });
        response.write('words');
        for (const line of lines('x', 300)) response.addTrailers([line.split(': ') as [string, string]]);
        response.end();
      } else {
        for (const line of lines('x', 300)) response.appendHeader(...(line.split(': ') as [string, string]));
        response.end('words');
      }
    },
    onChildUpgrade(_got, socket) {
      socket.on('error', () => undefined);
      socket.end(`HTTP/1.1 403 No\r\n${lines('x', 300).join('\r\n')}\r\n\r\n`);
    },
  });
  const ended = watched(to.tunnel());
  for (const [kind, method, more, connection] of KINDS) {
    const got = await send(`${method} ${to.direct('/large')}`, [`Connection: ${connection}`, ...more]);
    expect(got.code, kind).toBeGreaterThanOrEqual(500);
    expect((await send(`GET ${to.direct('/after')}`, ['Connection: close'])).code).toBe(200);
  }
  const cut = await send(`GET ${to.direct('/trailers')}`, ['Connection: close']);
  expect(cut.text.endsWith('0\r\n\r\n')).toBe(false);
  expect((await send(`GET ${to.direct('/after')}`, ['Connection: close'])).code).toBe(200);
  expect(ended()).toBeUndefined();
});

test('R32: 100 KB of headers pass both ways', async () => {
  const { to, send } = await startDoors(
    clean,
    () => ({ ...ANN, groups: Array.from({ length: 12 }, (_, at) => `${'g'.repeat(1_000)}-${at}`) }),
    {
      child(got, response) {
        for (const line of lines('x', 100)) response.appendHeader(...(line.split(': ') as [string, string]));
        response.setHeader('groups', got.rawHeaders.filter((name) => name === 'impersonate-group').length);
        response.end('words');
      },
    },
  );
  const got = await send(`GET ${to.direct('/large')}`, ['Connection: close']);
  expect(got.code).toBe(200);
  expect(got.head).toMatch(/^groups: 12$/m);
  expect(got.head.match(/^x-[0-9]+: h{1000}$/gm)).toHaveLength(100);
});
