import type { Target } from '../lib/http1.ts';
import { atLeast, atMost, type Row } from '../lib/report.ts';
import { median } from '../lib/stats.ts';
import { type Bench, SMALL_LIST, VERSION_PATH } from './setup.ts';

const ROUNDS = 5;
const ROUND_MS = 1_500;
const ms = (value: number) => `${value.toFixed(2)} ms`;
const rate = (value: number) => `${value.toFixed(0)}/s`;

type Figures = { p50: number[]; rate: number[]; bytes: number };

/** Measures each target in turns, so that what else the machine does falls on all alike. With 16 clients only those of `many`. */
async function inTurns<Name extends string>(
  bench: Bench,
  targets: Record<Name, Target>,
  many: readonly NoInfer<Name>[],
): Promise<Record<Name, Figures>> {
  const figures = {} as Record<Name, Figures>;
  const names = Object.keys(targets) as Name[];
  for (const name of names) figures[name] = { p50: [], rate: [], bytes: 0 };
  for (let round = 0; round < ROUNDS; round++) {
    for (const name of names) {
      const single = await bench.client.run({ target: targets[name], concurrency: 1, durationMs: ROUND_MS });
      figures[name].p50.push(single.p50);
      figures[name].bytes = single.bytesEach;
    }
    for (const name of many) {
      const { perSecond } = await bench.client.run({ target: targets[name], concurrency: 16, durationMs: ROUND_MS });
      figures[name].rate.push(perSecond);
    }
  }
  return figures;
}

/** GET /version with one client and with 16, and a list of 317 KB, direct and through kube-apiserver; then the same at the hub itself, the tunnel too. */
export async function smallRequests(bench: Bench): Promise<Row[]> {
  const usual = await inTurns(
    bench,
    {
      direct: bench.direct(VERSION_PATH),
      hop: bench.hop(),
      through: bench.through(VERSION_PATH),
      listDirect: bench.direct(SMALL_LIST),
      listThrough: bench.through(SMALL_LIST),
    },
    ['direct', 'through'],
  );
  const past = await bench.pastKubeApiServer(() =>
    inTurns(bench, { direct: bench.direct(VERSION_PATH), hub: bench.atHub(VERSION_PATH) }, ['direct', 'hub']),
  );
  // The list's own resourceVersion may have grown by a digit.
  if (Math.abs(usual.listThrough.bytes - usual.listDirect.bytes) > 16) throw new Error('the list is not the same through the hub');
  const p50 = ({ p50: values }: Figures) => median(values);
  const at16 = ({ rate: values }: Figures) => median(values);
  const floor = p50(usual.hop) + p50(usual.direct);
  return [
    atMost(
      'GET /version, 1 client, p50 / floor',
      p50(usual.through) / floor,
      1.5,
      `${ms(p50(usual.through))} / (hop ${ms(p50(usual.hop))} + direct ${ms(p50(usual.direct))})`,
    ),
    atLeast(
      'GET /version, 16 clients, rate / direct',
      at16(usual.through) / at16(usual.direct),
      0.18,
      `${rate(at16(usual.through))} / ${rate(at16(usual.direct))}`,
    ),
    atMost(
      'GET /version at the hub, 1 client, p50 - direct, ms',
      p50(past.hub) - p50(past.direct),
      0.6,
      `${ms(p50(past.hub))} - ${ms(p50(past.direct))}`,
    ),
    atLeast(
      'GET /version at the hub, 16 clients, rate / direct',
      at16(past.hub) / at16(past.direct),
      0.36,
      `${rate(at16(past.hub))} / ${rate(at16(past.direct))}`,
    ),
    atMost(
      'list of 500 ConfigMaps, 1 client, p50 / direct',
      p50(usual.listThrough) / p50(usual.listDirect),
      1.6,
      `${ms(p50(usual.listThrough))} / ${ms(p50(usual.listDirect))}, ${Math.round(usual.listThrough.bytes / 1000)} KB`,
    ),
  ];
}
