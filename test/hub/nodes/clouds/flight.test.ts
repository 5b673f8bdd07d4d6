import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { CloudError } from '../../../../src/hub/nodes/clouds/cloud.ts';
import { kindOf, redact } from '../../../../src/hub/nodes/clouds/failure.ts';
import type { Flight } from '../../../../src/hub/nodes/clouds/flight.ts';
import { endpointURLProblem, fly, openConnection, targetOf } from '../../../../src/hub/nodes/clouds/flight.ts';
import { quote } from '../../../../src/hub/nodes/clouds/provider-id.ts';
import { send } from '../../../../src/hub/nodes/clouds/send.ts';
import { threadTime } from '../../../support/thread-time.ts';

const received: string[] = [];
let connections = 0;
let url: URL;
const server = createServer((request, response) => {
  received.push(request.url ?? '');
  request.resume();
  response.end('done');
});
server.on('connection', () => connections++);

beforeEach(async () => {
  received.length = 0;
  connections = 0;
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  url = new URL(`http://127.0.0.1:${address.port}`);
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

const flightOf = (beforeSend: () => void, signal = new AbortController().signal): Flight => ({
  signal,
  beforeSend,
  sent: false,
  refused: undefined,
  failure: '',
});
const POST = { method: 'POST', path: '/x', headers: { host: 'h' }, body: 'body' };

test('sending is asked for after the connection is made, and bytes leave only after it agreed', async () => {
  const seen: [number, number][] = [];
  const flight = flightOf(() => seen.push([connections, received.length]));
  const socket = await openConnection(targetOf(url, undefined), flight);
  await vi.waitFor(() => expect(connections).toBe(1));
  expect([flight.sent, seen]).toEqual([false, []]);
  socket.destroy();
  await send(targetOf(url, undefined), POST, flight);
  expect(flight.sent).toBe(true);
  expect(seen.every(([, answered]) => answered === 0)).toBe(true);
  expect(received).toEqual(['/x']);
});

test('a refusal comes out and not one byte leaves', async () => {
  const flight = flightOf(() => {
    throw new Error('lost');
  });
  await expect(send(targetOf(url, undefined), POST, flight)).rejects.toThrow();
  expect(flight.refused?.error).toMatchObject({ message: 'lost' });
  expect(flight.sent).toBe(false);
  expect(received).toEqual([]);
});

test('work that goes on after its attempt ended can send nothing', async () => {
  let release: () => void = () => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  let late: Promise<unknown> | undefined;
  const call = { signal: new AbortController().signal, beforeSend: () => undefined, timeoutMilliseconds: 30, what: 'it' };
  const attempt = fly(
    call,
    (flight) => {
      late = held.then(() => send(targetOf(url, undefined), POST, flight));
      return late;
    },
    () => new CloudError('Transient', 'x', 'x'),
  );
  await expect(attempt).rejects.toMatchObject({ code: 'Timeout', mayHaveHappened: false });
  release();
  await expect(late).rejects.toMatchObject({ code: 'ABORTED' });
  expect([connections, received]).toEqual([0, []]);
});

test('a process that is frozen between connecting and sending asks again when it wakes, and sends nothing', async () => {
  const program = `
    import { openConnection, targetOf } from ${JSON.stringify(join(import.meta.dirname, '../../../../src/hub/nodes/clouds/flight.ts'))};
    const leaseEnds = Date.now() + 1500;
    const flight = { signal: new AbortController().signal, sent: false, refused: undefined, failure: '',
      beforeSend: () => { if (Date.now() > leaseEnds) throw new Error('lease ended'); } };
    const socket = await openConnection(targetOf(new URL(${JSON.stringify(url.href)}), undefined), flight);
    socket.on('close', () => console.log('closed sent=' + flight.sent + ' refused=' + flight.refused?.error.message));
    process.stdin.once('data', () => socket.write('POST /late HTTP/1.1\\r\\nhost: h\\r\\ncontent-length: 0\\r\\n\\r\\n'));
    console.log('connected');
  `;
  const child: ChildProcess = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['pipe', 'pipe', 'inherit'] });
  try {
    let output = '';
    child.stdout?.on('data', (chunk) => {
      output += String(chunk);
    });
    await vi.waitFor(() => expect(output).toContain('connected'), { timeout: 15_000 });
    child.kill('SIGSTOP');
    child.stdin?.write('go\n');
    const frozen = Date.now();
    await vi.waitFor(() => expect(Date.now() - frozen).toBeGreaterThan(1600), { timeout: 5000 });
    child.kill('SIGCONT');
    await vi.waitFor(() => expect(output).toContain('closed'), { timeout: 15_000 });
    expect(output).toContain('closed sent=false refused=lease ended');
    expect(received).toEqual([]);
  } finally {
    child.kill('SIGKILL');
  }
});

test('endpoint URLs', () => {
  for (const good of ['https://h', 'https://h:8443', 'http://127.0.0.1:1', 'http://cvm.localhost:1', 'http://[::1]:1'])
    expect(endpointURLProblem(good)).toBeUndefined();
  for (const bad of [
    'h',
    'http://h',
    'http://127.0.0.1.evil.example',
    'http://localhost.evil.example',
    'ftp://h',
    'https://h/p',
    'https://h?q',
    'https://u:p@h',
  ])
    expect(endpointURLProblem(bad), bad).toBeDefined();
});

test('codes by kind: whole codes and prefixes, the first kind wins', () => {
  const table = [
    ['Conflict', ['A.B*']],
    ['Forbidden', ['A*', 'C']],
  ] as const;
  expect(['A.Bc', 'A.x', 'C', 'Cx', ''].map((code) => kindOf(code, table))).toEqual([
    'Conflict',
    'Forbidden',
    'Forbidden',
    undefined,
    undefined,
  ]);
});

test('R34: texts of a cloud are made safe in time, whatever their size', () => {
  for (const text of ['a'.repeat(100_000), 'AKIA'.repeat(25_000), 'eyJ '.repeat(25_000), '\u0000'.repeat(100_000)]) {
    const spent = threadTime();
    expect(redact(text).length).toBeLessThanOrEqual(300);
    expect(quote(text).length).toBeLessThan(600);
    expect(spent()).toBeLessThan(20);
  }
  expect(redact('a\nb\u0007c')).toBe('a b c');
  expect(redact('InvalidParameterCombination of i-0123456789abcdef0')).toBe('InvalidParameterCombination of i-0123456789abcdef0');
});
