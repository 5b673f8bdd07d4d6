import { execFile } from 'node:child_process';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { duplicateFields, parseBody, readBody } from '../../../src/hub/http/body.ts';
import { MAX_YAML_BYTES } from '../../../src/hub/http/yaml-body.ts';
import { StatusError } from '../../../src/kube/status.ts';

const MIB = 1024 * 1024;
type Outcome = { value?: unknown; code?: number; reason?: string; message?: string };

/** Sends `chunks` to a real listener and says what readBody made of them. */
async function through(chunks: readonly (string | Buffer)[], headers: Record<string, string> = {}, limit?: number): Promise<Outcome> {
  const server = createServer();
  const outcome = new Promise<Outcome>((resolve) => {
    server.on('request', (incoming, response) => {
      readBody(incoming, limit === undefined ? {} : { limit })
        .then(
          (value) => resolve({ value }),
          (error: unknown) => resolve(refusal(error)),
        )
        .finally(() => response.writeHead(204, { Connection: 'close' }).end());
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const sent = request({ host: '127.0.0.1', port: (server.address() as AddressInfo).port, method: 'POST', headers, agent: false });
  try {
    sent.on('error', () => undefined).on('response', (response) => response.resume());
    for (const chunk of chunks) sent.write(chunk);
    sent.end();
    return await outcome;
  } finally {
    sent.destroy();
    server.closeAllConnections();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  }
}

function refusal(error: unknown): Outcome {
  if (!(error instanceof StatusError)) throw error;
  const { code, reason, message } = error.status;
  return { code, reason, message: message ?? '' };
}

function parsed(text: string | Buffer, type: 'application/json' | 'application/yaml' = 'application/json'): Outcome {
  try {
    return { value: parseBody(Buffer.from(text), type) };
  } catch (error) {
    return refusal(error);
  }
}

test.each([
  ['no body', [], {}, undefined],
  ['an empty form, as curl -X POST -d "" sends it', [], { 'content-type': 'application/x-www-form-urlencoded' }, undefined],
  ['only white space', [' \n'], {}, undefined],
  ['JSON without Content-Type', ['{"drain":', 'true}'], {}, { drain: true }],
  ['JSON with charset', ['{}'], { 'content-type': 'application/json; charset=UTF-8' }, {}],
  ['YAML', ['drain: true\nreason: "x"\n'], { 'content-type': 'application/yaml' }, { drain: true, reason: 'x' }],
  ['a byte order mark', ['\uFEFF{"a":1}'], {}, { a: 1 }],
])('%s is read', async (_, chunks, headers: Record<string, string>, value) => {
  expect(await through(chunks, headers)).toEqual({ value });
});

test.each([
  ['protobuf', ['k8s\0'], { 'content-type': 'application/vnd.kubernetes.protobuf' }, 415],
  ['another charset', ['{}'], { 'content-type': 'application/json; charset=latin1' }, 415],
  ['R33: a gzip bomb', [gzipSync(Buffer.alloc(64 * MIB))], { 'content-encoding': 'gzip' }, 415],
  ['R33: Content-Length over the limit', ['{}'], { 'content-length': String(4 * MIB) }, 413],
  ['R33: more than the limit in chunks', Array.from({ length: 4 }, () => Buffer.alloc(MIB, 0x20)), {}, 413],
  ['text that is no JSON', ['drain: true'], {}, 400],
  ['bytes that are no UTF-8', [Buffer.from([0x22, 0xff, 0x22])], {}, 400],
])('%s is refused', async (_, chunks, headers: Record<string, string>, code) => {
  expect(await through(chunks, headers)).toMatchObject({ code });
});

test('a limit of one byte less refuses, the limit itself does not', async () => {
  expect(await through(['{"a":1}'], {}, 7)).toEqual({ value: { a: 1 } });
  expect(await through(['{"a":1}'], {}, 6)).toMatchObject({ code: 413, reason: 'RequestEntityTooLarge' });
});

test('a client that goes away midway, and a signal, end the wait', async () => {
  const server = createServer();
  const first = Promise.withResolvers<Outcome>();
  const second = Promise.withResolvers<unknown>();
  const stop = new AbortController();
  let calls = 0;
  server.on('request', (incoming) => {
    const again = calls++ > 0;
    const reading = readBody(incoming, again ? { signal: stop.signal } : {});
    if (again) reading.then(second.resolve, second.resolve).finally(() => undefined);
    else
      reading.then(
        (value) => first.resolve({ value }),
        (error: unknown) => first.resolve(refusal(error)),
      );
    if (again) stop.abort(new Error('draining'));
    else sent.destroy();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const open = () => {
    const one = request({ host: '127.0.0.1', port: (server.address() as AddressInfo).port, method: 'POST', agent: false });
    one.on('error', () => undefined).write('{');
    return one;
  };
  const sent = open();
  try {
    expect(await first.promise).toMatchObject({ code: 400, message: 'the request ended before its body was complete' });
    const other = open();
    expect(await second.promise).toMatchObject({ message: 'draining' });
    other.destroy();
  } finally {
    server.closeAllConnections();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  }
});

test('duplicate fields are noted with their paths, also under escapes, in lists and in YAML', () => {
  const json = parseBody(Buffer.from('{"a":1,"s":{"b":[{"c":1,"\\u0063":2}]},"a":3,"t":"a:\\"{,\\\\"}'));
  expect(json).toEqual({ a: 3, s: { b: [{ c: 2 }] }, t: 'a:"{,\\' });
  expect(duplicateFields(json)).toEqual(['s.b[0].c', 'a']);
  const yaml = parseBody(Buffer.from('a: 1\ns:\n  b:\n  - c: 1\n    c: 2\na: 3\n'), 'application/yaml');
  expect(yaml).toEqual({ a: 3, s: { b: [{ c: 2 }] } });
  expect(duplicateFields(yaml)).toEqual(['s.b[0].c', 'a']);
  expect(duplicateFields(parseBody(Buffer.from('{"a":{"x":1},"b":{"x":1}}')))).toEqual([]);
  expect(duplicateFields({})).toEqual([]);
});

test('R33: __proto__ is refused in JSON and YAML, and nothing reaches Object.prototype', () => {
  for (const text of ['{"__proto__":{"polluted":1}}', '{"a":{"\\u005f_proto__":{"polluted":1}}}']) {
    expect(parsed(text)).toMatchObject({ code: 400, message: 'a field may not be named "__proto__"' });
  }
  expect(parsed('__proto__:\n  polluted: 1\n', 'application/yaml')).toMatchObject({ code: 400 });
  expect(parsed('a: {"__proto__": {polluted: 1}}', 'application/yaml')).toMatchObject({ code: 400 });
  const safe = parsed('{"constructor":{"prototype":{"polluted":1}}}').value as object;
  expect(Object.hasOwn(safe, 'constructor')).toBe(true);
  expect(({} as { polluted?: number }).polluted).toBeUndefined();
  expect(Object.getOwnPropertyNames(Object.prototype)).not.toContain('polluted');
});

const deep = (open: string, close: string, count: number) => open.repeat(count) + close.repeat(count);
const bomb = `a: &a [x,x,x,x,x,x,x,x,x]\n${[...'bcdefghi'].map((name, index) => `${name}: &${name} [${Array(9).fill(`*${'abcdefghi'[index]}`).join(',')}]`).join('\n')}\n`;
test.each([
  ['10k JSON lists', deep('[', ']', 10_000), 'application/json'],
  ['10k JSON objects', '{"a":'.repeat(10_000), 'application/json'],
  ['10k YAML flow lists', deep('[', ']', 10_000), 'application/yaml'],
  ['8k YAML flow maps', '{a: '.repeat(8_000), 'application/yaml'],
  ['10k YAML dashes', `${'- '.repeat(10_000)}x`, 'application/yaml'],
  ['YAML blocks, 320 deep', Array.from({ length: 160 }, (_, depth) => `${'  '.repeat(depth)}- a:`).join('\n'), 'application/yaml'],
  ['an alias bomb', bomb, 'application/yaml'],
  ['one alias', 'a: &x 1\nb: *x\n', 'application/yaml'],
  ['a merge key', 'a: &x {b: 1}\n<<: *x\n', 'application/yaml'],
  ['two documents', 'a: 1\n---\nb: 1\n', 'application/yaml'],
  ['a map as key', '? {a: 1}\n: 2\n', 'application/yaml'],
  ['broken YAML', 'a: [1,\n', 'application/yaml'],
  ['broken JSON', '{"a":1}}', 'application/json'],
  ['an open string', '{"a', 'application/json'],
  ['200,000 empty objects', `[${'{},'.repeat(200_000)}{}]`, 'application/json'],
] as const)('R33: %s gets a 400 with a reason', (_, text, type) => {
  const outcome = parsed(text, type);
  expect(outcome).toMatchObject({ code: 400, reason: 'BadRequest', message: expect.stringMatching(/^the body .{10,}/) });
  expect(outcome.message?.length).toBeLessThan(400);
});

test('long YAML is refused with 413 before it is parsed', () => {
  expect(parsed(`a: ${'x'.repeat(MAX_YAML_BYTES)}`, 'application/yaml')).toMatchObject({ code: 413 });
});

test('R33: hostile bodies of the full size cost at most 32 MiB and half a second of processor time each', async () => {
  const script = fileURLToPath(new URL('hostile-bodies.ts', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', script]);
  const results = Object.entries(JSON.parse(stdout) as Record<string, { grown: number; milliseconds: number; code: number }>);
  expect(results).toHaveLength(8);
  for (const [name, { grown, milliseconds }] of results) {
    expect(grown, name).toBeLessThan(32 * MIB);
    expect(milliseconds, name).toBeLessThan(500);
  }
  expect(results.filter(([, { code }]) => code === 400).map(([name]) => name)).toEqual(
    expect.arrayContaining(['json objects', 'json fields', 'json brackets', 'yaml tags', 'yaml keys']),
  );
});
