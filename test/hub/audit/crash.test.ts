import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { verifyChain } from '../../../src/hub/audit/verify.ts';
import { linesOf, logOf, numbersIn } from './entries.ts';
import { folder } from './folder.ts';

const WRITER = new URL('crash-writer.ts', import.meta.url).pathname;
const KILLS = 20;

/** Lets a process write from entry `start` on and kills it at a random moment after its first flush. The number of the last entry it knew to be durable. */
async function writeAndKill(path: string, start: number): Promise<{ durable: number; complaints: string }> {
  const child = spawn(process.execPath, [WRITER, path, String(start)], { stdio: ['ignore', 'pipe', 'pipe'] });
  let complaints = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaints += text;
  });
  let durable = -1;
  let began = () => {};
  const begun = new Promise<void>((resolve) => {
    began = resolve;
  });
  const lines = createInterface({ input: child.stdout });
  lines.on('line', (line) => {
    durable = Number(line);
    began();
  });
  const ended = once(child, 'close');
  try {
    await Promise.race([begun, ended]);
    // The moment of the kill is the point, not a wait for something.
    await sleep(randomInt(30));
  } finally {
    child.kill('SIGKILL');
  }
  await ended;
  return { durable, complaints };
}

test(`R66: ${KILLS} times kill -9 while lines are written: the chain verifies, and no line that was durable is missing`, {
  timeout: 60_000,
}, async (context) => {
  const path = join(await folder(context), 'audit.log');
  let start = 0;
  let written = 0;
  for (let kill = 0; kill < KILLS; kill++) {
    const { durable, complaints } = await writeAndKill(path, start);
    expect(durable, complaints).toBeGreaterThanOrEqual(start + 49);
    // Only what a half-written line explains may be told at the next start.
    expect(complaints.split('\n').filter((line) => line !== '' && !line.includes('"note":"torn"'))).toEqual([]);
    const { firstBreak } = await verifyChain(path);
    if (firstBreak) expect(firstBreak.kind).toBe('torn');
    written = durable + 1;
    const log = logOf(path, context);
    await log.close();
    expect(await verifyChain(path)).toMatchObject({ ok: true });
    start = (numbersIn(await linesOf(path)).at(-1) ?? -1) + 1;
    expect(start).toBeGreaterThanOrEqual(written);
  }
  const numbers = numbersIn(await linesOf(path));
  expect(numbers).toEqual(numbers.map((_, index) => index));
  expect(numbers.length).toBeGreaterThanOrEqual(KILLS * 50);
});
