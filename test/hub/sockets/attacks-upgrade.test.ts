import type { Socket } from 'node:net';
import { expect, test } from 'vitest';
import { cleanUp } from '../../support/clean-up.ts';
import { type PairOptions, socketPair } from '../../support/socket-pair.ts';
import { waitUntil } from '../../support/wait-until.ts';
import { agentStream, rawClient, rawRequest, recordBytes, requestText } from './attack-tools.ts';
import { ANSWERS, FORMS, plain, SPDY, WEBSOCKET } from './upgrade-answers.ts';

const clean = cleanUp();
async function start(options: PairOptions) {
  const to = await socketPair(options);
  clean.after(() => to.close());
  return { to, bytes: recordBytes(to.child) };
}

for (const [method, upgrade] of FORMS) {
  test.each(ANSWERS)(
    `R20: ${method} upgrade answered with %s: nothing that was pipelined reaches the child, and the connection ends`,
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
      await waitUntil(() => client.text() !== '', 'an answer');
      client.write(second);
      const got = await client.closed();
      expect(got.code).toBe(code);
      expect(got.head).not.toMatch(/^location:/im);
      expect(got.text.match(/HTTP\/1\.1/g)).toHaveLength(1);
      if (code < 500 && code !== 204) expect(got.body).toBe('words');
      await waitUntil(() => child?.destroyed === true, 'the connection to the child to end');
      expect(bytes.text().match(/HTTP\/1\.1\r\n/g)).toHaveLength(1);
      expect(bytes.text()).not.toContain('SECOND');
      // Hub and agent still work.
      expect(await rawRequest(to.hubPort, to.hubCA, `GET ${to.direct('/after')}`)).toMatchObject({ code: 200 });
      expect(bytes.text()).toContain('/after');
    },
  );
}

test.each([
  ['101', 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n'],
  ['999', plain(999)],
  ['099', plain(99).replace(' 99 ', ' 099 ')],
  ['garbage', 'SSH-2.0-nobody\r\n\r\n'],
])(
  'R20: a request without Upgrade that is answered with %s is 502, and the connection to the child is not used again',
  async (_what, answer) => {
    const { to, bytes } = await start({
      child(got, response) {
        if (got.url === '/after') response.end('fine');
        else got.socket.write(answer);
      },
    });
    expect(await rawRequest(to.hubPort, to.hubCA, `POST ${to.direct('/odd')}`, ['Content-Length: 0'])).toMatchObject({ code: 502 });
    expect(await rawRequest(to.hubPort, to.hubCA, `GET ${to.direct('/after')}`)).toMatchObject({ code: 200 });
    expect(bytes.connections()).toBe(2);
  },
);

test('R20: what a child repeats in head and trailers passes as it came, and ends nothing', async () => {
  const { to } = await start({
    child(got, response) {
      if (got.url === '/after') response.end('fine');
      else
        got.socket.end(
          'HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Type: c/d\r\nETag: 1\r\nETag: 2\r\nTrailer: etag\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwords\r\n0\r\nETag: 3\r\nETag: 4\r\n\r\n',
        );
    },
  });
  const got = await rawRequest(to.hubPort, to.hubCA, `GET ${to.direct('/odd')}`);
  expect(got.head.match(/^(content-type|etag): .*$/gim)).toEqual(['content-type: a/b', 'content-type: c/d', 'etag: 1', 'etag: 2']);
  expect(got.text).toMatch(/etag: 3\r\netag: 4/);
  expect(await rawRequest(to.hubPort, to.hubCA, `GET ${to.direct('/after')}`)).toMatchObject({ code: 200 });
});

test('R20: what a client repeats in head and trailers ends nothing', async () => {
  const { to } = await start({ child: (got, response) => void got.resume().on('end', () => response.end('fine')) });
  const client = await rawClient(to.hubPort, to.hubCA);
  const repeated = 'Content-Type: a/b\r\nContent-Type: c/d\r\nUser-Agent: 1\r\nUser-Agent: 2\r\nIf-Match: 1\r\nIf-Match: 2\r\n';
  client.write(
    `POST ${to.direct('/odd')} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\nTrailer: etag\r\nTransfer-Encoding: chunked\r\n${repeated}\r\n5\r\nwords\r\n0\r\n${repeated}ETag: 3\r\nETag: 4\r\n\r\n`,
  );
  expect((await client.closed()).code).toBeGreaterThanOrEqual(200);
  expect(await rawRequest(to.hubPort, to.hubCA, `GET ${to.direct('/after')}`)).toMatchObject({
    code: 200,
    body: expect.stringContaining('fine'),
  });
});

const switched = (socket: Socket, protocol: string) =>
  void socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\n`);

test('R16: an upgrade needs create, whatever its method and however it is asked for; get alone opens none', async () => {
  let verbs = new Set(['get']);
  const upgrades: string[] = [];
  const heads: Array<[upgrade: string | undefined, connection: string | undefined]> = [];
  const { to } = await start({
    child(got, response) {
      heads.push([got.headers.upgrade, got.headers.connection]);
      response.end('plain');
    },
    onChildUpgrade(got, socket) {
      upgrades.push(got.headers.upgrade ?? '');
      socket.on('error', () => undefined);
      switched(socket, got.headers.upgrade ?? '');
    },
  });
  const asked: string[] = [];
  to.allow((_user, verb, subresource, name) => {
    asked.push(`${verb} ${subresource} ${name === to.id}`);
    return verbs.has(verb);
  });
  const forms: Array<[line: string, headers: readonly string[]]> = [
    [`GET ${to.direct('/exec')}`, WEBSOCKET],
    [`POST ${to.direct('/exec')}`, SPDY],
    [`PUT ${to.direct('/exec')}`, SPDY],
    [`OPTIONS ${to.direct('/exec')}`, SPDY],
    [`GET ${to.direct('/exec')}`, ['CONNECTION: keep-alive, uPgRaDe', 'uPGRADE: WebSocket']],
    [`GET ${to.direct('/exec')}`, ['Connection: upgrade', 'Upgrade: h2c, websocket']],
    [`GET ${to.direct('/exec')}`, ['Connection: upgrade', 'Upgrade: h2c', 'Upgrade: websocket']],
    [`GET /apis/proxies.clusternet.io/v1alpha1/sockets/${to.id}/https/127.0.0.1:${to.childPort}/exec`, WEBSOCKET],
  ];
  for (const [line, headers] of forms) {
    verbs = new Set(['get', 'update', 'patch', 'delete']);
    const client = await rawClient(to.hubPort, to.hubCA);
    client.write(requestText(line, headers));
    expect(await client.closed(), `${line} ${headers}`).toMatchObject({ code: 403, body: expect.stringContaining('"kind":"Status"') });
    expect(asked.at(-1)).toBe('create proxy true');
    expect(upgrades).toEqual([]);
  }
  for (const [line, headers] of forms) {
    verbs = new Set(['create']);
    const client = await rawClient(to.hubPort, to.hubCA);
    client.write(requestText(line, headers));
    await waitUntil(() => client.text().includes('\r\n\r\n'), 'an answer');
    expect(client.text(), `${line} ${headers}`).toMatch(/^HTTP\/1\.1 101 /);
    client.destroy();
  }
  expect(upgrades).toHaveLength(forms.length);
  // What Node does not take for an upgrade is a plain request, and the child must not take it for one either.
  verbs = new Set(['get']);
  for (const headers of [
    ['Upgrade: websocket'],
    ['Connection: close', 'Upgrade: websocket'],
    ['Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c'],
  ])
    expect(await rawRequest(to.hubPort, to.hubCA, `GET ${to.direct('/exec')}`, headers)).toMatchObject({ code: 200 });
  expect(heads).toEqual(Array.from({ length: 3 }, () => [undefined, 'keep-alive']));
  expect(upgrades).toHaveLength(forms.length);
});

test('R21: redirects are 502 without Location, on requests and upgrades, and nobody follows them; 304 passes', async () => {
  let seen = 0;
  const { to, bytes } = await start({
    child(got, response) {
      seen++;
      const code = Number(got.url?.slice(1));
      response.writeHead(code, { location: `https://127.0.0.1:${to.childPort}/FOLLOWED`, etag: '"1"' });
      response.end(code === 304 ? undefined : 'elsewhere');
    },
    onChildUpgrade(got, socket) {
      seen++;
      socket.write(plain(Number(got.url?.slice(1)), `Location: https://127.0.0.1:${to.childPort}/FOLLOWED\r\n`));
      socket.on('error', () => undefined);
    },
  });
  let asked = 0;
  for (const code of [300, 301, 302, 303, 305, 307, 308, 399]) {
    const lines: Array<[string, readonly string[]]> = [
      [`GET ${to.direct(`/${code}`)}`, []],
      [`POST ${to.direct(`/${code}`)}`, ['Content-Length: 0']],
      [`GET ${to.direct(`/${code}`)}`, WEBSOCKET],
      [`POST ${to.direct(`/${code}`)}`, SPDY],
    ];
    for (const [line, headers] of lines) {
      asked++;
      const upgrade = headers.length > 1;
      const client = await rawClient(to.hubPort, to.hubCA);
      client.write(requestText(line, upgrade ? headers : [...headers, 'Connection: close']));
      const got = await client.closed();
      expect(got.code, line).toBe(502);
      expect(got.head).not.toMatch(/^location:/im);
      expect(got.text).not.toMatch(/FOLLOWED|elsewhere|words/);
      expect(got.body).toContain('"kind":"Status"');
      expect(got.body).toContain(`answered ${code}`);
    }
  }
  expect(seen).toBe(asked);
  expect(bytes.text()).not.toContain('FOLLOWED');
  const unchanged = await rawRequest(to.hubPort, to.hubCA, `GET ${to.direct('/304')}`, ['If-None-Match: "1"']);
  expect(unchanged.code).toBe(304);
  expect(unchanged.head).toMatch(/^etag: "1"$/m);
});

test.each(ANSWERS)(
  'R20: at the agent: what a hub sends into a stream whose upgrade was answered with %s goes nowhere',
  async (_what, answer, code, delayMs = 0) => {
    let child: Socket | undefined;
    const { to, bytes } = await start({
      child: (_got, response) => response.end(),
      onChildUpgrade(_got, socket) {
        child = socket;
        socket.on('error', () => undefined);
        if (answer === '') socket.destroy();
        else if (answer.startsWith('HTTP/1.1 200 OK')) socket.end(answer);
        else setTimeout(() => socket.write(answer), delayMs);
      },
    });
    const got = await agentStream(to, ['fairlead-user', 'ann', 'fairlead-method', 'GET'], {
      upgrade: true,
      first: 'GET /SECOND HTTP/1.1\r\nHost: a\r\n\r\n',
    });
    // In HTTP/2 a 2xx would be the switch.
    expect(got.code).toBe(code < 300 || answer.includes('302') ? (code < 300 ? 502 : 302) : code);
    await waitUntil(() => child?.destroyed === true, 'the connection to the child to end');
    expect(bytes.text().match(/HTTP\/1\.1\r\n/g)).toHaveLength(1);
    expect(bytes.text()).not.toContain('SECOND');
  },
);

test.each([
  ['a method that is none', ['fairlead-method', 'DE LETE']],
  ['a line break in the token', ['fairlead-child-token', 'a%0d%0ab']],
])('R20: at the agent: an upgrade with %s is refused and ends nothing else', async (_what, headers) => {
  const { to, bytes } = await start({ child: (_got, response) => response.end('fine') });
  const got = await agentStream(to, ['fairlead-user', 'ann', ...headers], { upgrade: true });
  expect(got.code).toBe(400);
  expect(got.body).toContain('"kind":"Status"');
  expect(bytes.text()).toBe('');
  expect(await rawRequest(to.hubPort, to.hubCA, `GET ${to.direct('/after')}`)).toMatchObject({ code: 200 });
});
