import type { Socket } from 'node:net';
import { expect, test } from 'vitest';
import { cleanUp } from '../../support/clean-up.ts';
import { type PairOptions, socketPair } from '../../support/socket-pair.ts';
import { waitUntil } from '../../support/wait-until.ts';
import { rawClient, rawRequest, recordBytes, requestText } from './attack-tools.ts';

const clean = cleanUp();
async function start(options: PairOptions) {
  const to = await socketPair(options);
  clean.after(() => to.close());
  return { to, bytes: recordBytes(to.child) };
}

const WEBSOCKET = ['Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=='];
const SPDY = ['Connection: Upgrade', 'Upgrade: SPDY/3.1', 'X-Stream-Protocol-Version: v4.channel.k8s.io'];
const FORMS = [
  ['GET', WEBSOCKET],
  ['POST', SPDY],
] as const;

const plain = (code: number, more = '') => `HTTP/1.1 ${code} Whatever\r\n${more}Content-Length: 5\r\n\r\nwords`;
/** What a child answers to an upgrade, and the code that the client must see. */
const ANSWERS: ReadonlyArray<[what: string, bytes: string, code: number, delayMs?: number]> = [
  ['200', plain(200), 200],
  ['200 without length', 'HTTP/1.1 200 OK\r\n\r\nwords', 200],
  ['200 with Upgrade headers', plain(200, 'Connection: Upgrade\r\nUpgrade: websocket\r\n'), 200],
  ['204', 'HTTP/1.1 204 No Content\r\n\r\n', 204],
  ['302', plain(302, 'Location: https://127.0.0.1:1/\r\n'), 502],
  ['400', plain(400), 400],
  ['403', plain(403), 403],
  ['500', plain(500), 500],
  ['999', plain(999), 502],
  ['a code that claims to be a switch', plain(403, 'Fairlead-Status: 101\r\nFairlead-Switched: 1\r\n'), 403],
  ['two content types', plain(403, 'Content-Type: a/b\r\nContent-Type: c/d\r\n'), 403],
  ['garbage', 'SSH-2.0-nobody\r\n\r\n', 502],
  ['nothing', '', 502],
  ['slow', plain(403), 403, 700],
];

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
      expect(got.text).not.toMatch(/location:/i);
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
