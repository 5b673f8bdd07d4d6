import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { cutStream } from '../../../src/tunnel/cut.ts';
import { waitUntil } from '../../support/wait-until.ts';
import { type AgentLab, agentLab, LIFECYCLE_API } from './agent-lab.ts';

let lab: AgentLab;
beforeAll(async () => {
  lab = await agentLab(['--request-timeout=3s']);
}, 30_000);
afterAll(() => lab.close());
beforeEach(() => lab.end.reset());

/** Resets the stream of a request at the agent. */
function cut(at: number): void {
  const stream = lab.end.asked[at]?.stream;
  if (!stream) throw new Error('no such request');
  cutStream(stream);
}

/** An open answer of a subresource, by bearer token, with what has come of it so far. */
async function open(
  subresource: string,
): Promise<{ response: IncomingMessage; text: () => string; ended: () => 'whole' | 'cut' | undefined }> {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const sent = request({
      host: '127.0.0.1',
      port: lab.hub.port,
      ca: lab.hub.ca,
      servername: 'localhost',
      agent: false,
      path: `${LIFECYCLE_API}/${subresource}`,
      headers: { authorization: 'Bearer agent-token' },
    });
    sent.on('response', resolve).on('error', reject).end();
  });
  let [text, ended]: [string, 'whole' | 'cut' | undefined] = ['', undefined];
  response.setEncoding('utf8').on('data', (part: string) => {
    text += part;
  });
  response
    .on('error', () => undefined)
    .on('close', () => {
      ended = response.complete ? 'whole' : 'cut';
    });
  return { response, text: () => text, ended: () => ended };
}

test('log?follow=true: lines come as the agent writes them, past the time limit of requests, and end when it ends', async () => {
  lab.end.says(() => 'stream');
  const { response, text, ended } = await open('log?follow=true');
  expect([response.statusCode, response.headers['content-type']]).toEqual([200, 'text/plain; charset=utf-8']);
  const [asked] = lab.end.asked;
  expect(asked?.path).toBe('/api/v1alpha1/cluster/log?follow=true');
  asked?.stream.write('one\n');
  await waitUntil(() => text() === 'one\n', 'the first line');
  const began = performance.now();
  await waitUntil(() => performance.now() - began > 3_500, 'longer than a request may take');
  asked?.stream.write('two\n');
  await waitUntil(() => text() === 'one\ntwo\n', 'the second line');
  asked?.stream.end('three\n');
  await waitUntil(() => ended() === 'whole', 'the end');
  expect(text()).toBe('one\ntwo\nthree\n');
});

test('a client that goes away ends the stream at the agent', async () => {
  lab.end.says(() => 'stream');
  const { response } = await open('log?follow=true');
  const [asked] = lab.end.asked;
  response.destroy();
  await waitUntil(() => asked?.stream.closed ?? false, 'the end at the agent');
});

test('a log that is cut ends as a cut, never as an end', async () => {
  lab.end.says(() => 'stream');
  const { text, ended } = await open('log');
  expect(lab.end.asked[0]?.path).toBe('/api/v1alpha1/cluster/log');
  lab.end.asked[0]?.stream.write('half');
  await waitUntil(() => text() === 'half', 'the first part');
  cut(0);
  await waitUntil(() => ended() !== undefined, 'the end');
  expect(ended()).toBe('cut');
});

test('an agent that does not answer: 504 in time; a change says that it may have begun, and the stream ends', async () => {
  lab.end.says(() => 'hang');
  const read = await lab.ask('lifecycle');
  expect([read.code, JSON.parse(read.body).message]).toEqual([504, expect.not.stringContaining('begun')]);
  const change = await lab.ask('lifecycle', { method: 'DELETE' });
  expect([change.code, JSON.parse(change.body).message]).toEqual([504, expect.stringContaining('it may have begun')]);
  await waitUntil(() => lab.end.asked.every(({ stream }) => stream.closed), 'both streams to end');
});

test('an answer that is cut is 503 and says that it may have begun; one that is no JSON, or too long, is 502', async () => {
  lab.end.says(() => 'stream');
  const ended = lab.ask('lifecycle', { method: 'DELETE' });
  await waitUntil(() => lab.end.asked.length === 1, 'the request');
  cut(0);
  const answer = await ended;
  expect([answer.code, JSON.parse(answer.body).message]).toEqual([503, expect.stringContaining('it may have begun')]);
  for (const body of ['no JSON', '[]', '', '{}', 'null', '"text"']) {
    lab.end.says(() => ({ body }));
    expect([body, (await lab.ask('lifecycle')).code]).toEqual([body, 502]);
  }
  lab.end.says(() => ({ body: `"${'x'.repeat(1024 * 1024)}"` }));
  const long = await lab.ask('kubeconfig');
  expect([long.code, JSON.parse(long.body).message]).toEqual([502, expect.stringContaining('larger than')]);
  expect((await lab.ask('log?follow=perhaps')).code).toBe(400);
});

test('agent away: 503 with since when, and back again', async () => {
  const tunnel = await lab.attach();
  expect((await lab.ask('lifecycle')).code).toBe(200);
  lab.closeTunnels();
  await tunnel.closed;
  await waitUntil(async () => (await lab.ask('lifecycle')).code === 503, 'the end of the tunnels');
  const away = await lab.ask('lifecycle');
  expect(JSON.parse(away.body).message).toMatch(/^cluster edge \(.*\) is not connected since \d{4}-/);
  await lab.attach();
  expect((await lab.ask('lifecycle')).code).toBe(200);
});
