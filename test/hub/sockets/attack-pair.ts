import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { UserInfo } from '../../../src/hub/auth/user.ts';
import type { cleanUp } from '../../support/clean-up.ts';
import { type PairOptions, socketPair } from '../../support/socket-pair.ts';
import { waitUntil } from '../../support/wait-until.ts';
import { entrance, rawClient, readAnswer, recordBytes, requestText } from './attack-tools.ts';

type Clean = ReturnType<typeof cleanUp>;

/** A pair whose child keeps what it saw, and switches every upgrade. */
export async function startPair(clean: Clean, options: Partial<PairOptions> = {}) {
  const seen: IncomingMessage[] = [];
  const to = await socketPair({
    child(got, response) {
      seen.push(got);
      response.end('answered');
    },
    onChildUpgrade(got, socket: Socket) {
      seen.push(got);
      socket.on('error', () => undefined);
      socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${got.headers.upgrade}\r\n\r\n`);
    },
    ...options,
  });
  clean.after(() => to.close());
  /** Sends one request and reads the head of its answer. */
  const send = async (line: string, headers: readonly string[]) => {
    const client = await rawClient(to.hubPort, to.hubCA);
    client.write(requestText(line, headers));
    await waitUntil(() => client.text().includes('\r\n\r\n'), 'an answer');
    client.destroy();
    return readAnswer(client.text());
  };
  return { to, seen, send, bytes: recordBytes(to.child) };
}

/** The doors of the hub before the child of a pair, for callers that no header of a test could carry. */
export async function startDoors(
  clean: Clean,
  user: () => UserInfo,
  options: Partial<PairOptions> = {},
  via: 'frontProxy' | 'token' = 'frontProxy',
) {
  const started = await startPair(clean, options);
  const door = await entrance(started.to, () => ({ user: user(), via }));
  clean.after(() => door.close());
  const send = async (line: string, headers: readonly string[]) => {
    const client = await rawClient(door.port, door.ca);
    client.write(requestText(line, headers));
    await waitUntil(() => client.text().includes('\r\n\r\n'), 'an answer', 20_000);
    client.destroy();
    return readAnswer(client.text());
  };
  return { ...started, door, send };
}

export const ANN = { name: 'ann', uid: 'u-1', groups: ['dev', 'system:authenticated'], extra: { scope: ['a', 'b'] } };
/** What the child sees of her, and of the agent. */
export const AS_ANN = [
  'authorization: Bearer agent-token',
  'impersonate-user: ann',
  'impersonate-uid: u-1',
  'impersonate-group: dev',
  'impersonate-group: system:authenticated',
  'impersonate-extra-scope: a',
  'impersonate-extra-scope: b',
];
export const asUser = (user: object) => `X-Test-User: ${JSON.stringify(user)}`;

/** A request and two upgrades: method, headers, what `Connection` says, and the code when all is well. */
export const KINDS: ReadonlyArray<[what: string, method: string, headers: readonly string[], connection: string, code: number]> = [
  ['HTTP', 'GET', [], 'close', 200],
  ['WebSocket', 'GET', ['Upgrade: websocket', 'Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=='], 'Upgrade', 101],
  ['SPDY', 'POST', ['Upgrade: SPDY/3.1', 'X-Stream-Protocol-Version: v4.channel.k8s.io'], 'Upgrade', 101],
];
