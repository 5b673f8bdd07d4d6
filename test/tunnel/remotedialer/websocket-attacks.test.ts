import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, createConnection, createServer, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { WebSocket } from 'ws';
import { serveRemotedialer } from '../../../src/tunnel/remotedialer/agent.ts';
import { cleanUp } from '../../support/clean-up.ts';
import { limit, times } from '../../support/counts.ts';
import { rawHandshake } from './ends.ts';
import { hubProcess } from './hub-process-start.ts';
import { DATA, type Peer, peer, peerFrame } from './peer.ts';

const clean = cleanUp();
const MIB = 1 << 20;

type Masked = { masked: boolean };
/** One websocket frame by hand. The mask is all zeros, so the payload stays as it is. */
function frame(
  opcode: number,
  payload: Buffer,
  { masked, fin = true, rsv = 0, length }: Masked & { fin?: boolean; rsv?: number; length?: bigint },
) {
  const size = length ?? BigInt(payload.length);
  const head = [(fin ? 0x80 : 0) | (rsv << 4) | opcode];
  const bit = masked ? 0x80 : 0;
  if (size < 126n) head.push(bit | Number(size));
  else head.push(bit | 127, ...Array.from({ length: 8 }, (_, i) => Number((size >> BigInt(8 * (7 - i))) & 0xffn)));
  return Buffer.concat([Buffer.from(head), masked ? Buffer.alloc(4) : Buffer.alloc(0), payload]);
}

/** What is sent, over and over until the other end closes; and with which code it must close, undefined when it need not say why. The last rows are of R37, which allows more memory. */
type Attack = {
  name: string;
  code: number | undefined;
  memory?: number;
  first?: (role: Masked) => Buffer;
  again?: (role: Masked) => Buffer;
};
const data = peerFrame(2n, DATA, 'x');
const repeat = (bytes: Buffer, count: number) => Buffer.concat(Array.from({ length: count }, () => bytes));
const attacks: Attack[] = [
  {
    name: 'fragments without end',
    code: 1008,
    first: (role) => frame(2, data, { ...role, fin: false }),
    again: (role) => repeat(frame(0, Buffer.alloc(8), { ...role, fin: false }), 100),
  },
  {
    name: 'a million empty continuations',
    code: 1008,
    first: (role) => frame(2, data, { ...role, fin: false }),
    again: (role) => repeat(frame(0, Buffer.alloc(0), { ...role, fin: false }), 1000),
  },
  {
    name: 'large fragments',
    code: 1009,
    first: (role) => frame(2, data, { ...role, fin: false }),
    again: (role) => frame(0, Buffer.alloc(30_000), { ...role, fin: false }),
  },
  { name: 'a compressed frame', code: 1002, first: (role) => frame(2, data, { ...role, rsv: 4 }) },
  { name: 'reserved bits', code: 1002, first: (role) => frame(2, data, { ...role, rsv: 1 }) },
  { name: 'the wrong mask', code: 1002, first: ({ masked }) => frame(2, data, { masked: !masked }) },
  { name: 'a text message', code: 1002, first: (role) => frame(1, Buffer.from('hello'), role) },
  { name: 'a reserved opcode', code: 1002, first: (role) => frame(5, data, role) },
  { name: 'a continuation of nothing', code: 1002, first: (role) => frame(0, data, role) },
  { name: 'a ping in fragments', code: 1002, first: (role) => frame(9, Buffer.alloc(1), { ...role, fin: false }) },
  { name: 'a long ping', code: 1002, first: (role) => frame(9, Buffer.alloc(126), role) },
  { name: '1 GiB announced', code: 1009, first: (role) => frame(2, Buffer.alloc(0), { ...role, length: 1n << 30n }) },
  { name: '2^63 bytes announced', code: 1009, first: (role) => frame(2, Buffer.alloc(0), { ...role, length: 1n << 63n }) },
  { name: 'a flood of pings', code: undefined, again: (role) => repeat(frame(9, Buffer.alloc(100), role), 100) },
  { name: 'a flood of pongs', code: undefined, again: (role) => repeat(frame(10, Buffer.alloc(0), role), 100) },
  {
    name: 'data for nobody, without end (R37)',
    code: undefined,
    memory: 50 * MIB,
    again: (role) => repeat(frame(2, peerFrame(77n, DATA, 'x'), role), 500),
  },
  {
    name: 'messages that lead nowhere (R37)',
    code: undefined,
    memory: 50 * MIB,
    again: (role) => repeat(frame(2, peerFrame(77n, 99n), role), 500),
  },
];

/** The code of the close frame that comes, undefined when the connection ends without one. */
async function closeCode(socket: Socket, masked: boolean, gone: Promise<void>): Promise<number | undefined> {
  let bytes = Buffer.alloc(0);
  socket.on('data', (chunk) => {
    bytes = Buffer.concat([bytes, chunk]);
  });
  await gone;
  while (bytes.length >= 2) {
    const [first = 0, second = 0] = bytes;
    const short = second & 0x7f;
    const length = short === 126 ? bytes.readUInt16BE(2) : short;
    const head = 2 + (short === 126 ? 2 : 0) + (masked ? 4 : 0);
    if ((first & 0x0f) === 8) {
      const payload = Buffer.from(bytes.subarray(head, head + 2));
      if (masked) for (let i = 0; i < 2; i++) payload[i] = (payload[i] ?? 0) ^ (bytes[head - 4 + i] ?? 0);
      return payload.readUInt16BE();
    }
    bytes = bytes.subarray(head + length);
  }
  return undefined;
}

/** Sends the attack until the other end has closed. */
async function run(socket: Socket, { first, again }: Attack, role: Masked): Promise<number | undefined> {
  const gone = new Promise<void>((resolve) => (socket.destroyed ? resolve() : socket.once('close', () => resolve())));
  const code = closeCode(socket, !role.masked, gone);
  if (first) socket.write(first(role));
  const more = again?.(role);
  while (more && !socket.destroyed && socket.writable) {
    if (socket.write(more)) await new Promise(setImmediate);
    else {
      const { promise, resolve } = Promise.withResolvers<void>();
      socket.once('drain', resolve);
      await Promise.race([promise, gone]);
      socket.off('drain', resolve);
    }
  }
  // Answers the close frame, as a peer would, so that nobody waits.
  socket.end();
  return code;
}

describe('R36: a hostile agent', () => {
  const whole: (() => unknown)[] = [];
  const owner = { after: (undo: () => unknown) => void whole.push(undo), signal: () => new AbortController().signal };
  let hub: Awaited<ReturnType<typeof hubProcess>>;
  let witness: Peer;
  beforeAll(async () => {
    hub = await hubProcess(owner);
    const ws = new WebSocket(`ws://127.0.0.1:${hub.port}/`);
    witness = peer(ws);
    whole.push(() => ws.terminate());
    await witness.frame(({ id }) => id === 2n);
  });
  afterAll(async () => {
    for (const undo of whole.reverse()) await undo();
  });
  let count = 0;
  /** Another tunnel of the same hub carries bytes there and back. */
  const echoed = async () => {
    const text = `still there ${++count}`;
    witness.send(2n, DATA, text);
    await witness.frame(({ payload }) => payload.toString() === text);
  };

  test.each(attacks)(
    '$name',
    async (attack) => {
      // The first time some memory is taken for good: code, pools.
      for (let i = 0; i < 3; i++) await run((await rawHandshake(clean, hub.port)).socket, attack, { masked: true });
      const { rss } = await hub.state();
      for (let i = 0; i < times(attack.again ? 2 : 5, 100); i++) {
        const code = await run((await rawHandshake(clean, hub.port)).socket, attack, { masked: true });
        // The end of a connection may overtake its close frame when much is under way; without more to send it must come.
        if (!attack.again) expect(code).toBe(attack.code);
        else if (code !== undefined && attack.code !== undefined) expect(code).toBe(attack.code);
        await echoed();
      }
      await vi.waitFor(async () => expect((await hub.state()).sessions).toBe(1), { timeout: 10_000 });
      expect((await hub.state()).rss - rss).toBeLessThan(attack.memory ?? 8 * MIB);
    },
    limit(60_000, 600_000),
  );

  test('slow fragments of an honest agent pass', async () => {
    const { socket } = await rawHandshake(clean, hub.port);
    const message = peerFrame(2n, DATA, Buffer.alloc(32 * 1024, 'f'));
    let echo = 0;
    socket.on('data', (chunk: Buffer) => {
      echo += chunk.filter((byte) => byte === 0x66).length;
    });
    for (let from = 0; from < message.length; from += 1024) {
      const fin = from + 1024 >= message.length;
      socket.write(frame(from === 0 ? 2 : 0, message.subarray(from, from + 1024), { masked: true, fin }));
      // A ping between fragments is allowed.
      socket.write(frame(9, Buffer.alloc(0), { masked: true }));
    }
    await vi.waitFor(() => expect(echo).toBe(32 * 1024));
  });
});

describe('R36: a hostile hub', () => {
  /** Answers handshakes by hand and gives the socket. */
  async function hostileHub(): Promise<{ port: number; next(): Promise<Socket> }> {
    const waiting: ((socket: Socket) => void)[] = [];
    const server = createServer((socket) => {
      clean.after(() => socket.destroy());
      socket.on('error', () => {});
      socket.once('data', (request: Buffer) => {
        const key = /Sec-WebSocket-Key: (\S+)/i.exec(request.toString('latin1'))?.[1] ?? '';
        const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
        socket.write(
          `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
        );
        waiting.shift()?.(socket);
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    clean.after(() => server.close());
    return { port: (server.address() as AddressInfo).port, next: () => new Promise((resolve) => void waiting.push(resolve)) };
  }

  test.each(attacks)('$name', async (attack) => {
    const { port, next } = await hostileHub();
    for (let i = 0; i < times(attack.again ? 1 : 2, 50); i++) {
      const socket = next();
      const session = await serveRemotedialer({
        url: new URL(`ws://127.0.0.1:${port}/x`),
        async open() {
          const connection = createConnection(port, '127.0.0.1');
          await once(connection, 'connect');
          return connection;
        },
        token: () => 't',
        userAgent: 'x',
        connect: () => Promise.reject(new Error('never')),
        signal: clean.signal(),
      });
      const code = await run(await socket, attack, { masked: false });
      if (!attack.again) expect(code).toBe(attack.code);
      expect((await session.ended).message).not.toBe('');
      expect(session.connections()).toBe(0);
    }
  });
});
