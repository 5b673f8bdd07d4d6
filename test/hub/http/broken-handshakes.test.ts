import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { get } from 'node:https';
import { createServer, connect as dial, type Socket } from 'node:net';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { times } from '../../support/counts.ts';
import { eventually } from '../auth/eventually.ts';

const COUNT = times(2_000, 100_000);
const AT_ONCE = 20;

let target: ChildProcess;
let output = '';
let port = 0;
let hello: Buffer;

beforeAll(async () => {
  target = spawn(process.execPath, [join(import.meta.dirname, 'handshake-target.ts')], { stdio: ['ignore', 'pipe', 'pipe'] });
  for (const stream of [target.stdout, target.stderr]) {
    stream?.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
  }
  port = Number(await eventually('the port', () => /port (\d+)/.exec(output)?.[1], 10_000));
  hello = await clientHello();
});
afterAll(() => {
  target.kill('SIGKILL');
});

/** The first bytes of a real client. */
async function clientHello(): Promise<Buffer> {
  const taker = createServer();
  await new Promise<void>((resolve) => taker.listen(0, '127.0.0.1', resolve));
  const address = taker.address();
  const client = connect({ host: '127.0.0.1', port: typeof address === 'object' && address ? address.port : 0, servername: 'localhost' });
  client.on('error', () => undefined);
  const bytes = await new Promise<Buffer>((resolve) => {
    taker.once('connection', (socket) => {
      socket.on('error', () => undefined);
      socket.once('data', (chunk: Buffer) => {
        resolve(chunk);
        socket.destroy();
      });
    });
  });
  client.destroy();
  taker.close();
  return bytes;
}

/** Runs `attack` on a fresh connection; resolves when the connection is gone. */
function raw(attack: (socket: Socket) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = dial(port, '127.0.0.1', () => attack(socket));
    socket.on('error', () => undefined);
    socket.on('data', () => undefined);
    socket.on('close', () => resolve());
    socket.setTimeout(20_000, () => {
      socket.destroy();
      reject(new Error('the server kept a broken connection for 20 s'));
    });
  });
}

/** The same over a finished handshake. */
function secured(attack: (socket: Socket, say: (text: string) => void) => void): Promise<void> {
  return raw((socket) => {
    const tls = connect({ socket, rejectUnauthorized: false, servername: 'localhost' }, () => attack(socket, (text) => tls.write(text)));
    tls.on('error', () => undefined);
  });
}

const withServerName = (name: string) => {
  const changed = Buffer.from(hello);
  const at = changed.indexOf('localhost');
  expect(at).toBeGreaterThan(0);
  changed.write(name.padEnd(9, '.').slice(0, 9), at, 'latin1');
  return changed;
};

const attacks: Record<string, (round: number) => Promise<void>> = {
  'reset after part of the ClientHello': (round) =>
    raw((socket) => socket.write(hello.subarray(0, 1 + (round % hello.length)), () => socket.resetAndDestroy())),
  'reset after the ClientHello': () => raw((socket) => socket.write(hello, () => socket.resetAndDestroy())),
  "reset at the server's first bytes": () => raw((socket) => socket.once('data', () => socket.resetAndDestroy()).write(hello)),
  'end after part of the ClientHello': (round) => raw((socket) => socket.end(hello.subarray(0, 5 + (round % 200)))),
  'not TLS': () => raw((socket) => socket.end('GET / HTTP/1.1\r\nHost: x\r\n\r\n')),
  'random bytes': (round) => raw((socket) => socket.end(Buffer.from(Array.from({ length: 300 }, (_, at) => (at * round * 31 + 7) & 255)))),
  'a flipped byte': (round) => {
    const changed = Buffer.from(hello);
    const at = round % changed.length;
    changed[at] = (changed[at] ?? 0) ^ 0xff;
    return raw((socket) => socket.write(changed, () => socket.end()));
  },
  'a server name that is none': (round) =>
    raw((socket) => socket.write(withServerName(['\0\0\0', '\xff\xfe', '..', '*', '../../e'][round % 5] ?? ''), () => socket.end())),
  'no common ALPN': () =>
    raw((socket) => {
      connect({ socket, rejectUnauthorized: false, ALPNProtocols: ['h2'] }).on('error', () => undefined);
    }),
  'reset after the handshake': () => secured((socket) => socket.resetAndDestroy()),
  'reset in the middle of a request': () =>
    secured((socket, say) => {
      say('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf');
      setImmediate(() => socket.resetAndDestroy());
    }),
  'a record that does not decrypt': () =>
    secured((socket) => socket.write(Buffer.from('1703030010000102030405060708090a0b0c0d0e0f', 'hex'))),
  'reset in the middle of a record': () =>
    secured((socket) => socket.write(Buffer.from('17030300ff0001', 'hex'), () => socket.resetAndDestroy())),
};

const openFiles = () => readdirSync(`/proc/${target.pid}/fd`).length;

function healthy(): Promise<boolean> {
  return new Promise((resolve) => {
    get({ host: '127.0.0.1', port, rejectUnauthorized: false, servername: 'localhost', agent: false }, (response) => {
      response.resume().on('end', () => resolve(response.statusCode === 200));
    }).on('error', () => resolve(false));
  });
}

test(`R35: ${COUNT} broken handshakes end nothing, throw nothing and leave no file open`, { timeout: 60_000 + COUNT * 20 }, async () => {
  expect(await healthy()).toBe(true);
  const baseline = openFiles();
  const kinds = Object.values(attacks);
  let next = 0;
  const worker = async () => {
    for (let round = next++; round < COUNT; round = next++) await kinds[round % kinds.length]?.(Math.floor(round / kinds.length));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  expect(target.exitCode).toBeNull();
  expect(output).not.toContain('unhandled');
  expect(await healthy()).toBe(true);
  await eventually('the files are closed', () => openFiles() <= baseline + 8, 15_000);
});

test('R35: clients that never say anything, or stop halfway, are cut after the time for a handshake', { timeout: 30_000 }, async () => {
  const began = performance.now();
  const silent = Array.from({ length: 10 }, () => raw(() => undefined));
  const halfway = Array.from({ length: 10 }, () => raw((socket) => socket.write(hello.subarray(0, 50))));
  await Promise.all([...silent, ...halfway]);
  expect(performance.now() - began).toBeGreaterThan(9_000);
  expect(performance.now() - began).toBeLessThan(15_000);
  expect(await healthy()).toBe(true);
});
