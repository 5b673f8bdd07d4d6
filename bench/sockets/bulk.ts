import type { Target } from '../lib/http1.ts';
import { peakMiB } from '../lib/memory.ts';
import { atLeast, atMost, type Row } from '../lib/report.ts';
import { median } from '../lib/stats.ts';
import { type Bench, LARGE_LIST, VERSION_PATH } from './setup.ts';

const ROUNDS = 3;
const LISTS = 4;
const BESIDE_MS = 6_000;

/** MB/s of each target, in turns. */
async function rates<Name extends string>(bench: Bench, targets: Record<Name, Target>): Promise<Record<Name, number>> {
  const found = {} as Record<Name, number[]>;
  const names = Object.keys(targets) as Name[];
  for (let round = 0; round < ROUNDS; round++) {
    for (const name of names) {
      const { megabytesPerSecond } = await bench.client.run({ target: targets[name], concurrency: 1, requests: LISTS });
      found[name] = [...(found[name] ?? []), megabytesPerSecond];
    }
  }
  return Object.fromEntries(names.map((name) => [name, median(found[name])])) as Record<Name, number>;
}

/** Lists of 50 MB: their rate, what they do to small requests beside them, and the memory that they take. */
export async function bulk(bench: Bench): Promise<Row[]> {
  const { client } = bench;
  const targets = { direct: bench.direct(LARGE_LIST), through: bench.through(LARGE_LIST) };
  const usual = await rates(bench, targets);
  const past = await bench.pastKubeApiServer(() => rates(bench, { direct: targets.direct, hub: bench.atHub(LARGE_LIST) }));
  const detail = (one: number, direct: number) => `${one.toFixed(0)} / ${direct.toFixed(0)} MB/s`;

  const small = { target: bench.through(VERSION_PATH), concurrency: 1, durationMs: BESIDE_MS };
  const alone = await client.run(small);
  const lists = client.run({ target: targets.through, concurrency: 2, durationMs: BESIDE_MS + 1_000 });
  const [beside, listed] = await Promise.all([client.run(small), lists]);
  const besideDirect = await Promise.all([
    client.run({ ...small, target: bench.direct(VERSION_PATH) }),
    client.run({ target: targets.direct, concurrency: 2, durationMs: BESIDE_MS + 1_000 }),
  ]);
  const [hub, agent] = [peakMiB(bench.hubPid()), peakMiB(bench.agent.pid())];
  const about = `beside two lists at ${listed.megabytesPerSecond.toFixed(0)} MB/s; direct beside direct lists: p50 ${besideDirect[0].p50.toFixed(2)}, p99 ${besideDirect[0].p99.toFixed(2)} ms`;
  return [
    atLeast('list of 50 MB, rate / direct', usual.through / usual.direct, 0.45, detail(usual.through, usual.direct)),
    atLeast('list of 50 MB at the hub, rate / direct', past.hub / past.direct, 0.7, detail(past.hub, past.direct)),
    atMost(
      'GET /version beside two lists / without, p50',
      beside.p50 / alone.p50,
      7,
      `${beside.p50.toFixed(2)} / ${alone.p50.toFixed(2)} ms, ${about}`,
    ),
    atMost(
      'GET /version beside two lists / without, p99',
      beside.p99 / alone.p99,
      20,
      `${beside.p99.toFixed(2)} / ${alone.p99.toFixed(2)} ms`,
    ),
    atMost('peak resident memory of the hub, MiB', hub, 260, 'after the lists'),
    atMost('peak resident memory of the agent, MiB', agent, 260, 'after the lists'),
  ];
}
