import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import { connect as connectTLS } from 'node:tls';
import { expect, test } from 'vitest';
import { remotedialerPath, serveRemotedialer } from '../../../src/tunnel/remotedialer/agent.ts';
import { cleanUp } from '../../support/clean-up.ts';
import { type PairOptions, socketPair } from '../../support/socket-pair.ts';
import { waitUntil } from '../../support/wait-until.ts';
import { ANN, asUser, KINDS } from './attack-pair.ts';
import { identityHeaders, rawClient, rawRequest, recordBytes, requestText } from './attack-tools.ts';
import { ANSWERS, FORMS, plain, SPDY, WEBSOCKET } from './upgrade-answers.ts';

const clean = cleanUp();

/** A pair whose tunnel is a clusternet agent's: the hub itself makes the requests, in connections that the agent only dials. */
async function start(options: PairOptions) {
  const to = await socketPair(options);
  clean.after(() => to.close());
  const bytes = recordBytes(to.child);
  to.setCluster({
    id: to.id,
    name: 'edge',
    namespace: 'edge',
    apiserverURL: `https://127.0.0.1:${to.childPort}`,
    childCA: undefined,
    childInsecure: true,
    credentialIDs: undefined,
  });
  const first = to.tunnel();
  const stop = new AbortController();
  const session = await serveRemotedialer({
    url: new URL(`https://127.0.0.1:${to.hubPort}${remotedialerPath(to.id)}`),
    async open() {
      const socket = connectTLS({ host: '127.0.0.1', port: to.hubPort, ca: to.hubCA, ALPNProtocols: ['http/1.1'] });
      await once(socket, 'secureConnect');
      return socket;
    },
    token: () => 'agent',
    userAgent: 'clusternet-agent/v0.1',
    async connect({ host, port }) {
      const socket = createConnection({ host, port });
      await once(socket, 'connect');
      return socket;
    },
    signal: stop.signal,
  });
  clean.after(async () => {
    stop.abort();
    await session.ended;
  });
  // The newest agent has the socket.
  await first.closed;
  return { to, bytes };
}

for (const [method, upgrade] of FORMS) {
  test.each(ANSWERS)(
    `R20: behind a clusternet agent: ${method} upgrade answered with %s: nothing that was pipelined reaches the child, and the connection ends`,
    async (_what, answer, code, delayMs = 0) => {
      let child: Socket | undefined;
      const { to, bytes } = await start({
        child: (_got, response) => response.end('a second request'),
        onChildUpgrade(_got, socket) {
          child = socket;
          socket.on('error', () => undefined);
          if (answer === '') socket.destroy();
          else if (answer.startsWith('HTTP/1.1 200 OK')) socket.end(answer);
          else setTimeout(() => socket.write(answer), delayMs);
        },
      });
      const client = await rawClient(to.hubPort, to.hubCA);
      const second = requestText(`GET ${to.direct('/SECOND')}`);
      client.write(requestText(`${method} ${to.direct('/exec')}`, upgrade) + second);
      await waitUntil(() => child !== undefined, 'the child to see the upgrade');
      client.write(second);
      const got = await client.closed();
      // Without HTTP/2 in between the odd status passes.
      expect(got.code).toBe(answer.includes(' 999 ') ? 999 : code);
      expect(got.head).not.toMatch(/^(location|fairlead-.*):/im);
      expect(got.text.match(/HTTP\/1\.1/g)).toHaveLength(1);
      await waitUntil(() => child?.destroyed === true, 'the connection to the child to end');
      expect(bytes.text().match(/HTTP\/1\.1\r\n/g)).toHaveLength(1);
      expect(bytes.text()).not.toContain('SECOND');
      expect(await rawRequest(to.hubPort, to.hubCA, `GET ${to.direct('/after')}`)).toMatchObject({ code: 200 });
    },
  );
}

test('R21: behind a clusternet agent: redirects are 502 without Location, and nobody follows them', async () => {
  const { to, bytes } = await start({
    child(got, response) {
      response.writeHead(Number(got.url?.slice(1)), { location: `https://127.0.0.1:${to.childPort}/FOLLOWED` });
      response.end('elsewhere');
    },
    onChildUpgrade(got, socket) {
      socket.write(plain(Number(got.url?.slice(1)), `Location: https://127.0.0.1:${to.childPort}/FOLLOWED\r\n`));
      socket.on('error', () => undefined);
    },
  });
  for (const code of [301, 302, 307, 308]) {
    for (const headers of [['Connection: close'], WEBSOCKET, SPDY]) {
      const client = await rawClient(to.hubPort, to.hubCA);
      client.write(requestText(`GET ${to.direct(`/${code}`)}`, headers));
      const got = await client.closed();
      expect(got).toMatchObject({ code: 502, body: expect.stringContaining('"kind":"Status"') });
      expect(got.head).not.toMatch(/^location:/im);
    }
  }
  expect(bytes.text()).not.toContain('FOLLOWED');
});

test('R4: behind a clusternet agent: a child sees the credential that the caller brought, or nobody', async () => {
  const seen: string[][] = [];
  const { to } = await start({
    child(got, response) {
      seen.push(identityHeaders(got));
      response.end();
    },
    onChildUpgrade(got, socket) {
      seen.push(identityHeaders(got));
      socket.on('error', () => undefined);
      socket.end(plain(403));
    },
  });
  const said = [
    'Impersonate-User: root',
    'X-Remote-User: root',
    'Fairlead-User: root',
    'fairlead-child-token: stolen',
    'Authorization: Bearer parent',
  ];
  for (const [kind, method, more, connection] of KINDS) {
    for (const extra of [{}, { 'clusternet-token': ['brought'] }]) {
      seen.length = 0;
      const client = await rawClient(to.hubPort, to.hubCA);
      client.write(
        requestText(`${method} ${to.direct('/api')}`, [`Connection: ${connection}`, ...more, asUser({ ...ANN, extra }), ...said]),
      );
      await client.closed();
      expect(seen, kind).toEqual(['clusternet-token' in extra ? ['authorization: Bearer brought'] : []]);
    }
  }
});
