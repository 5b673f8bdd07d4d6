import type { Lab } from '../../e2e/lab/lab.ts';
import { atMost, type Row } from '../lib/report.ts';
import { median } from '../lib/stats.ts';

const SAMPLES = 12;
const OURS = '/apis/infraops.michael.io/v1/nodes';
const CORE = '/api/v1/nodes';

/** Listing all nodes as `nodes.infraops` against listing core Nodes, through kube-apiserver, in turns, as Go clients ask (gzip) and as curl does. */
export async function listing(lab: Lab, count: number): Promise<Row[]> {
  const rows: Row[] = [];
  for (const encoding of ['gzip', 'identity']) {
    const times: Record<string, number[]> = { [OURS]: [], [CORE]: [] };
    const bytes: Record<string, number> = { [OURS]: 0, [CORE]: 0 };
    for (let round = 0; round < SAMPLES; round++) {
      for (const path of [OURS, CORE]) {
        const began = performance.now();
        const answer = await lab.api.request('GET', path, { headers: { 'accept-encoding': encoding } });
        times[path]?.push(performance.now() - began);
        if (answer.status !== 200) throw new Error(`GET ${path}: ${answer.status}`);
        bytes[path] = Number(answer.headers['content-length'] ?? Buffer.byteLength(answer.text, 'latin1'));
      }
    }
    const ours = median(times[OURS]?.slice(2) ?? []);
    const core = median(times[CORE]?.slice(2) ?? []);
    rows.push(
      atMost(
        `list ${count} nodes.infraops / core Nodes, p50, ${encoding}`,
        ours / core,
        1.5,
        `${ours.toFixed(0)} ms / ${core.toFixed(0)} ms`,
      ),
    );
    rows.push(
      atMost(
        `list ${count} nodes.infraops / core Nodes, bytes, ${encoding}`,
        (bytes[OURS] ?? 0) / (bytes[CORE] ?? 1),
        1,
        `${bytes[OURS]} / ${bytes[CORE]}`,
      ),
    );
  }
  return rows;
}
