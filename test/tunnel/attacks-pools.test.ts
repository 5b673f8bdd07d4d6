import { stat } from 'node:fs';
import { createServer as createHTTPS } from 'node:https';
import { connect, createServer, type Socket } from 'node:net';
import { createServer as createTLS, type TLSSocket } from 'node:tls';
import { expect, test } from 'vitest';
import type { ChildConnection } from '../../src/agent/upstream/settings.ts';
import { parseTargetPattern } from '../../src/tunnel/target.ts';
import { targetPools } from '../../src/tunnel/target-pools.ts';
import type { Route } from '../../src/tunnel/target-route.ts';
import type { RequestHead } from '../../src/tunnel/upstream.ts';
import { makeCa, makeClient, makeServer } from '../hub/auth/pki.ts';
import { cleanUp } from '../support/clean-up.ts';
import { limit, times } from '../support/counts.ts';
import { agentEnd, ask, countConnections, fakeNames, type Got, headOf, jane, listen } from './agent-end.ts';

const clean = cleanUp();
const ca = makeCa('child-ca');
const POISON = 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX-Poison: yes\r\n\r\npoison';
/** Other things that a target may write although nobody asked. */
const FORMS = [
  POISON,
  POISON.repeat(3),
  'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\npoison\r\n0\r\n\r\n',
  'HTTP/1.1 204 No Content\r\nX-Poison: yes\r\n\r\n',
  'HTTP/1.1 200 OK\r\nX-Poison: yes\r\n\r\npoison',
  'HTTP/1.1 408 Request Timeout\r\nContent-Length: 6\r\nX-Poison: yes\r\n\r\npoison',
  'HTTP/1.1 100 Continue\r\n\r\n'.repeat(2) + POISON,
];

/** A child that answers each request with its path, and writes what nobody asked for when it is told to. */
function hostileChild(glue: () => string) {
  const open: Socket[] = [];
  const serve = (socket: Socket) => {
    open.push(socket);
    socket.setNoDelay(true);
    socket.on('error', () => undefined);
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
      for (let end = text.indexOf('\r\n\r\n'); end >= 0; end = text.indexOf('\r\n\r\n')) {
        const path = text.slice(0, end).split(' ')[1] ?? '';
        text = text.slice(end + 4);
        socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${path.length}\r\n\r\n${path}${glue()}`);
      }
    });
  };
  /** Written on each connection that is idle, before this returns. */
  const poison = (form: string) => {
    for (const socket of open) if (!socket.destroyed && socket.writable) socket.write(form, 'latin1');
  };
  return { serve, poison, connections: () => open.length };
}

/** Runs what follows in one phase of the event loop: what was read and what was not yet differs between them. */
const PHASES: Record<string, () => Promise<unknown>> = {
  'after input': () => new Promise((resolve) => stat('/', resolve)),
  'after a timer': () => new Promise((resolve) => setTimeout(resolve, 1)),
  'in an immediate': () => new Promise((resolve) => setImmediate(resolve)),
  'at once': async () => undefined,
};
/** What came; something else when nothing whole came: poison without an end would be waited for forever. */
async function answered(asked: Promise<Got>): Promise<Got> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Got>((resolve) => {
    timer = setTimeout(() => resolve({ code: 0, headers: [], body: 'no end' }), 5_000);
  });
  return await Promise.race([asked, late]).finally(() => clearTimeout(timer));
}
const busy = (ms: number) => {
  const until = performance.now() + ms;
  while (performance.now() < until);
};
/** Time for what is on its way to arrive. */
const turns = async () => {
  for (let at = 0; at < 3; at++) await new Promise((resolve) => setImmediate(resolve));
};

test.each(Object.keys(PHASES))(
  'R26: answers that nobody asked for reach no caller, with the loop busy (%s)',
  { timeout: limit(60_000, 600_000) },
  async (phase) => {
    let glued = '';
    const child = hostileChild(() => glued);
    const server = createServer(child.serve);
    countConnections(clean, server);
    const port = await listen(server);
    const pools = targetPools();
    clean.after(() => pools.close());
    const route: Route = {
      key: 'shared',
      name: 'the child',
      connect: () =>
        new Promise((resolve, reject) => {
          const socket = connect({ port, host: '127.0.0.1', noDelay: true }, () => resolve(socket));
          socket.once('error', reject);
        }),
    };
    const upstream = {
      exchange: (head: RequestHead, _body: undefined, answer: Parameters<typeof pools.exchange>[3]) =>
        pools.exchange(route, head, undefined, answer),
    };
    const count = times(150, 2_500);
    const head = (path: string): RequestHead => ({ method: 'GET', scheme: 'http', authority: 'child', path, headers: ['host', 'child'] });
    for (let at = 0; at < count; at++) {
      const form = FORMS[at % FORMS.length] ?? POISON;
      const way = at % 3;
      glued = way === 0 ? form : '';
      expect((await ask(upstream, head(`/first/${at}`))).body).toBe(`/first/${at}`);
      glued = '';
      await PHASES[phase]?.();
      if (way > 0) child.poison(form);
      if (way > 1) busy(0.3);
      const path = `/second/${at}`;
      expect(await answered(ask(upstream, head(path)))).toMatchObject({ code: 200, body: path });
      await turns();
    }
    // A poisoned connection was given up: those answers did arrive.
    expect(child.connections()).toBeGreaterThan(count / 2);
  },
);

test('R26: the same through the tunnel and TLS: callers who share a connection get their own answers or none', {
  timeout: limit(60_000, 600_000),
}, async () => {
  let glued = '';
  const child = hostileChild(() => glued);
  const server = createTLS({ ...makeServer(ca) }, child.serve);
  countConnections(clean, server);
  const port = await listen(server);
  const { upstream } = await agentEnd(clean, {
    child: () => ({ server: `https://127.0.0.1:${port}`, ca: ca.cert, authorization: async () => 'Bearer agent' }),
  });
  const count = times(200, 10_000);
  let wrong = 0;
  for (let at = 0; at < count; at++) {
    const form = FORMS[at % FORMS.length] ?? POISON;
    glued = at % 2 === 0 ? form : '';
    const names = ['jane', 'joe', 'eve'];
    const paths = names.map((name) => `/${name}/${at}`);
    // Those who are glued to may fail; what they get must be theirs.
    await ask(upstream, headOf('direct', { path: `/warm/${at}` }));
    glued = '';
    if (at % 2 === 1) child.poison(form);
    if (at % 4 === 3) busy(0.3);
    const got = await Promise.all(
      names.map((name, which) => answered(ask(upstream, headOf('direct', { path: paths[which] ?? '' }, { ...jane, name })))),
    );
    for (const [which, { body, code }] of got.entries()) if (code !== 200 || body !== paths[which]) wrong++;
  }
  expect(wrong).toBe(0);
});

/** A server that asks for a client certificate and says whose came and which name was asked for. */
async function mirror() {
  const server = createHTTPS(
    { ...makeServer(ca, ['a.test', 'b.test', '127.0.0.1']), ca: ca.cert, requestCert: true, rejectUnauthorized: false },
    (got, response) => {
      const socket = got.socket as TLSSocket & { servername?: string };
      response.end(
        `${socket.getPeerCertificate().subject?.CN ?? 'nobody'}|${socket.servername || 'no name'}|${got.headers.host}|${got.headers.authorization ?? ''}`,
      );
    },
  );
  const connections = countConnections(clean, server);
  return { port: await listen(server), connections };
}

test('R27: callers with certificates of their own, without, and for different names never share a connection', {
  timeout: limit(60_000, 600_000),
}, async () => {
  const { port, connections } = await mirror();
  const agent = makeClient(ca, 'agent');
  const child: ChildConnection = {
    server: `https://127.0.0.1:${port}`,
    ca: ca.cert,
    authorization: async () => undefined,
    cert: agent.cert,
    key: agent.key,
  };
  const { upstream } = await agentEnd(clean, {
    child: () => child,
    allowTargets: ['*.test', '127.0.0.1'].map(parseTargetPattern),
    targetCA: () => ca.cert,
  });
  fakeNames(clean, () => ['127.0.0.1']);
  const pairs = ['jane', 'joe'].map((name) => ({ name, pair: makeClient(ca, name) }));
  const asks = [
    ...pairs.flatMap(({ name, pair }) =>
      ['direct', `a.test:${port}`, `b.test:${port}`].map((authority) => ({
        authority,
        caller: { ...jane, credential: { certificate: pair.cert, privateKey: pair.key } },
        expected: `${name}|${authority === 'direct' ? 'no name' : authority.split(':')[0]}|${authority === 'direct' ? `127.0.0.1:${port}` : authority}|`,
      })),
    ),
    { authority: 'direct', caller: jane, expected: `agent|no name|127.0.0.1:${port}|` },
    { authority: 'direct', caller: { ...jane, credential: { token: 't' } }, expected: `nobody|no name|127.0.0.1:${port}|Bearer t` },
    { authority: `a.test:${port}`, caller: jane, expected: `nobody|a.test|a.test:${port}|` },
    { authority: `b.test:${port}`, caller: { ...jane, credential: { token: 'u' } }, expected: `nobody|b.test|b.test:${port}|Bearer u` },
  ];
  const count = times(600, 10_000);
  let [crossings, asked] = [0, 0];
  const worker = async (offset: number) => {
    while (asked < count) {
      const next = asks[(asked++ * 7 + offset) % asks.length];
      if (!next) throw new Error('nobody asks');
      const { body } = await ask(upstream, headOf(next.authority, { scheme: 'https' }, next.caller));
      if (body !== next.expected) crossings++;
    }
  };
  await Promise.all([0, 1, 2, 3].map(worker));
  expect(crossings).toBe(0);
  // Connections were kept and used again, or nothing could have crossed.
  expect(connections.total()).toBeLessThan(count / 4);
});
