import { atLeast, atMost, type Row } from '../lib/report.ts';
import { median } from '../lib/stats.ts';
import { type Bench, SMALL_LIST, VERSION_PATH } from './setup.ts';

const ROUNDS = 5;
const ROUND_MS = 1_500;
const ms = (value: number) => `${value.toFixed(2)} ms`;
const rate = (value: number) => `${value.toFixed(0)}/s`;

/** GET /version with one client and with 16, and a list of 317 KB: direct, through kube-apiserver, and at the hub itself, in turns. */
export async function smallRequests(bench: Bench): Promise<Row[]> {
  const { client } = bench;
  const targets = {
    direct: bench.direct(VERSION_PATH),
    hop: bench.hop(),
    through: bench.through(VERSION_PATH),
    hub: bench.atHub(VERSION_PATH),
    listDirect: bench.direct(SMALL_LIST),
    listThrough: bench.through(SMALL_LIST),
  };
  type Name = keyof typeof targets;
  const one = new Map<Name, { p50: number[]; p99: number[]; bytes: number }>();
  const many = new Map<Name, number[]>();
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, target] of Object.entries(targets) as [Name, (typeof targets)[Name]][]) {
      const single = await client.run({ target, concurrency: 1, durationMs: ROUND_MS });
      const figures = one.get(name) ?? { p50: [], p99: [], bytes: 0 };
      figures.p50.push(single.p50);
      figures.p99.push(single.p99);
      figures.bytes = single.bytesEach;
      one.set(name, figures);
      if (name === 'direct' || name === 'through' || name === 'hub') {
        const result = await client.run({ target, concurrency: 16, durationMs: ROUND_MS });
        many.set(name, [...(many.get(name) ?? []), result.perSecond]);
      }
    }
  }
  const p50 = (name: Name) => median(one.get(name)?.p50 ?? []);
  const at16 = (name: Name) => median(many.get(name) ?? []);
  const floor = p50('hop') + p50('direct');
  const bytes = one.get('listThrough')?.bytes ?? 0;
  // The list's own resourceVersion may have grown by a digit.
  if (Math.abs(bytes - (one.get('listDirect')?.bytes ?? 0)) > 16) throw new Error('the list is not the same through the hub');
  return [
    atMost(
      'GET /version, 1 client, p50 / floor',
      p50('through') / floor,
      1.5,
      `${ms(p50('through'))} / (hop ${ms(p50('hop'))} + direct ${ms(p50('direct'))})`,
    ),
    atLeast(
      'GET /version, 16 clients, rate / direct',
      at16('through') / at16('direct'),
      0.18,
      `${rate(at16('through'))} / ${rate(at16('direct'))}`,
    ),
    atMost(
      'GET /version at the hub, 1 client, p50 - direct, ms',
      p50('hub') - p50('direct'),
      0.6,
      `${ms(p50('hub'))} - ${ms(p50('direct'))}`,
    ),
    atLeast(
      'GET /version at the hub, 16 clients, rate / direct',
      at16('hub') / at16('direct'),
      0.36,
      `${rate(at16('hub'))} / ${rate(at16('direct'))}`,
    ),
    atMost(
      'list of 500 ConfigMaps, 1 client, p50 / direct',
      p50('listThrough') / p50('listDirect'),
      1.6,
      `${ms(p50('listThrough'))} / ${ms(p50('listDirect'))}, ${Math.round(bytes / 1000)} KB`,
    ),
  ];
}
