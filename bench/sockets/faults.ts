import { waitFor } from '../../e2e/lab/wait.ts';
import { openConnection, type Target } from '../lib/http1.ts';
import { descriptors } from '../lib/memory.ts';
import { atMost, type Row } from '../lib/report.ts';
import { type Bench, VERSION_PATH } from './setup.ts';

const REQUESTS = 2_000;
const seconds = (ms: number) => ms / 1_000;

/** The status of one request on a connection of its own; 0 when it broke. */
async function once(target: Target): Promise<number> {
  try {
    const connection = await openConnection(target);
    try {
      return (await connection.ask()).status;
    } finally {
      connection.close();
    }
  } catch {
    return 0;
  }
}

/** Asks again and again, and resolves with the milliseconds since `began` when the answer is `status`. */
async function until(target: Target, status: number, began: number, timeout: number): Promise<number> {
  const answered = async () => {
    const got = await once(target);
    if (got !== status) throw new Error(`got ${got}`);
    return true;
  };
  await waitFor(answered, { what: `an answer ${status}`, timeout, interval: 5 });
  return performance.now() - began;
}

/** Descriptors that stay open in the agent after many requests. */
export async function agentDescriptors(bench: Bench): Promise<Row> {
  const pid = bench.agent.pid();
  const before = descriptors(pid);
  await bench.client.run({ target: bench.through(VERSION_PATH), concurrency: 16, requests: REQUESTS });
  const after = descriptors(pid);
  return atMost(`descriptors of the agent after ${REQUESTS} requests, more than before`, after - before, 64, `${before} -> ${after}`);
}

/** How soon callers are told that the agent is dead, or frozen, and how soon the child is reached again. */
export async function agentFaults(bench: Bench): Promise<Row[]> {
  const target = bench.through(VERSION_PATH);
  const connection = await openConnection(target);
  await connection.ask();
  const killed = performance.now();
  const ended = bench.agent.kill('SIGKILL');
  let last = 200;
  while (last === 200 && performance.now() - killed < 30_000) last = (await connection.ask()).status;
  const dead = performance.now() - killed;
  if (last !== 503) throw new Error(`the first answer after the agent's death is ${last}, not 503`);
  connection.close();
  await ended;
  const startedAt = performance.now();
  await bench.agent.start();
  const back = await until(target, 200, startedAt, 60_000);

  await bench.agent.waitForTunnels(1);
  const frozenAt = performance.now();
  bench.agent.freeze();
  const answer = await once(target);
  const frozen = performance.now() - frozenAt;
  if (answer !== 503 && answer !== 504) throw new Error(`the answer while the agent is frozen is ${answer}, not 503 or 504`);
  const thawedAt = performance.now();
  bench.agent.thaw();
  const again = await until(target, 200, thawedAt, 60_000);
  return [
    atMost('agent dead, until callers get a clear error, s', seconds(dead), 0.1, `usable ${seconds(back).toFixed(1)} s after its start`),
    atMost(
      'agent frozen, until callers get a clear error, s',
      seconds(frozen),
      12,
      `usable ${seconds(again).toFixed(1)} s after it thawed`,
    ),
  ];
}

/** How soon the child is reached again when the only replica of the hub is restarted. */
export async function hubRestart(bench: Bench): Promise<Row> {
  const target = bench.through(VERSION_PATH);
  await until(target, 200, performance.now(), 60_000);
  const asked = performance.now();
  await bench.hub.kill(0, 'SIGTERM', { leaveEndpoint: true });
  const ended = performance.now();
  const [usable] = await Promise.all([until(target, 200, ended, 60_000), bench.hub.start(0)]);
  return atMost(
    'hub restarted, until usable again, s',
    seconds(usable),
    3,
    `from the start of the new process; the old one took ${seconds(ended - asked).toFixed(1)} s to end`,
  );
}
