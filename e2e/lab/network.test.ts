import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { expect, test } from 'vitest';
import { createNetworkNamespace, noLoss, noNetem, noNetworkNamespaces } from './network.ts';
import { pause, waitFor } from './wait.ts';

// Run inside the namespace: sends a line every 20 ms and prints what comes back, and how the connection ended.
const talker = `
const [host, port] = process.argv.slice(1);
const socket = require('node:net').connect(Number(port), host);
socket.on('data', (data) => process.stdout.write(data));
socket.on('close', () => { console.log('closed'); process.exit(); });
socket.on('error', (error) => console.log(error.code));
let count = 0;
setInterval(() => socket.write(++count + '\\n'), 20);
`;

const impossible = noNetworkNamespaces();

test('a link that is cut loses packets without a sign, and goes on where it was when it is restored', async (context) => {
  if (impossible !== undefined) context.skip(impossible);
  const namespace = createNetworkNamespace();
  const link = namespace.addLink();
  const server = createServer((socket) => socket.on('error', () => undefined).pipe(socket)).listen(0, '0.0.0.0');
  await once(server, 'listening');
  const [command, args] = namespace.command(process.execPath, ['-e', talker, link.host, String((server.address() as AddressInfo).port)]);
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    let text = '';
    child.stdout.on('data', (data: Buffer) => {
      text += data.toString();
    });
    const lines = () => text.trimEnd().split('\n');
    await waitFor(() => lines().length > 5, { what: 'the echo' });
    link.cut();
    // What was on its way may still come; then nothing, and nobody is told.
    await pause(100);
    const before = text;
    await pause(500);
    expect(text).toBe(before);
    link.restore();
    await waitFor(() => lines().length > before.split('\n').length + 30, { what: 'the echo to go on' });
    expect(lines().slice(0, 40)).toEqual(Array.from({ length: 40 }, (_, index) => String(index + 1)));
  } finally {
    child.kill('SIGKILL');
    await once(child, 'exit');
    server.close();
    namespace.release();
  }
});

test('delay by netem', (context) => {
  const reason = noNetem();
  if (reason !== undefined) context.skip(reason);
  const namespace = createNetworkNamespace();
  try {
    const link = namespace.addLink();
    expect(() => link.impair(['delay', '100ms', 'loss', '1%'])).not.toThrow();
  } finally {
    namespace.release();
  }
});

// Run inside the namespace: sends 200 datagrams.
const sender = `
const [host, port] = process.argv.slice(1);
const socket = require('node:dgram').createSocket('udp4');
let left = 200;
const send = () => socket.send('x', Number(port), host, () => (--left > 0 ? setTimeout(send, 1) : socket.close()));
send();
`;

test('packets lost by chance', async (context) => {
  const reason = noLoss();
  if (reason !== undefined) context.skip(reason);
  const namespace = createNetworkNamespace();
  const receiver = createSocket('udp4');
  try {
    const link = namespace.addLink();
    receiver.bind(0, link.host);
    await once(receiver, 'listening');
    let come = 0;
    receiver.on('message', () => come++);
    const arrived = async () => {
      come = 0;
      const [command, args] = namespace.command(process.execPath, ['-e', sender, link.host, String(receiver.address().port)]);
      await once(spawn(command, args, { stdio: ['ignore', 'ignore', 'inherit'] }), 'exit');
      await pause(100);
      return come;
    };
    expect(await arrived()).toBe(200);
    link.lose(50);
    const some = await arrived();
    expect(some).toBeGreaterThan(40);
    expect(some).toBeLessThan(160);
    link.lose(0);
    expect(await arrived()).toBe(200);
  } finally {
    receiver.close();
    namespace.release();
  }
});
