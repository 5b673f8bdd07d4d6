import type { IncomingMessage } from 'node:http';
import { request } from 'node:http';
import { expect, test } from 'vitest';
import { cleanUp } from '../../support/clean-up.ts';
import { eventually } from '../auth/eventually.ts';
import { bareApp } from './bare-app.ts';

const cleaning = cleanUp();

/** An app that is deciding about requests until `decide` is called; `waiting` counts them. */
async function setUp(step: 'authenticate' | 'authorize') {
  let handled = 0;
  let waiting = 0;
  let held = Promise.withResolvers<void>();
  const wait = async () => {
    waiting++;
    await held.promise;
    waiting--;
  };
  const user = { name: 'u', uid: '', groups: [], extra: {} };
  const { port } = await bareApp(
    cleaning,
    async ({ info }) => {
      handled++;
      return info.verb === 'watch' ? { stream: async (_request, response) => void response.end() } : { object: {} };
    },
    step === 'authenticate'
      ? {
          async authenticate() {
            await wait();
            return { user, via: 'token' };
          },
        }
      : { authorizer: { authorize: wait, allowed: async () => true } },
  );
  return {
    port,
    handled: () => handled,
    waiting: () => waiting,
    decide() {
      held.resolve();
      held = Promise.withResolvers();
    },
  };
}

const send = (port: number, path: string) => request({ host: '127.0.0.1', port, path: `/apis/g/v1/${path}`, agent: false });
const ask = (port: number, path: string) =>
  new Promise<IncomingMessage>((resolve, reject) => void send(port, path).on('response', resolve).on('error', reject).end());

test.each([
  ['authenticate', 'r/one'],
  ['authorize', 'r/one'],
  ['authorize', 'r?watch=true'],
] as const)('regression: who left during %s of %s kept a place for ever', async (step, path) => {
  const app = await setUp(step);
  // More than there are places.
  for (let at = 0; at < 3; at++) {
    const sent = send(app.port, path);
    const closed = new Promise((resolve) => sent.on('close', resolve));
    sent.on('error', () => undefined).end();
    await eventually('it is being decided', () => app.waiting() === 1);
    sent.destroy();
    await closed;
    // The server hears of it a moment later than the client: another connection that it takes up after that says so.
    const after = send(app.port, 'r/after');
    after.on('error', () => undefined).end();
    await eventually('the next one is being decided', () => app.waiting() === 2);
    after.destroy();
    app.decide();
    await eventually('both are decided', () => app.waiting() === 0);
  }
  const answer = ask(app.port, path);
  await eventually('it is being decided', () => app.waiting() === 1);
  app.decide();
  expect((await answer).resume().statusCode).toBe(200);
});
