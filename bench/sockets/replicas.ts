import { waitFor } from '../../e2e/lab/wait.ts';
import { atMost, type Row } from '../lib/report.ts';
import { median } from '../lib/stats.ts';
import { type Bench, VERSION_PATH } from './setup.ts';

const ROUNDS = 5;
const ROUND_MS = 1_500;

/** GET /version at the replica that has no tunnel, against the one that has it. Ends with both replicas up and an agent with one tunnel. */
export async function otherReplica(bench: Bench): Promise<Row> {
  // While there is only replica 0, so that its one tunnel ends there.
  await bench.replaceAgent(['--tunnels=1']);
  await bench.hub.start(1);
  const [owner, other] = [bench.atHub(VERSION_PATH, 0), bench.atHub(VERSION_PATH, 1)];
  const reached = async () => {
    const { failures, statuses } = await bench.client.try({ target: other, concurrency: 1, requests: 1 });
    if (failures > 0) throw new Error(JSON.stringify(statuses));
    return true;
  };
  await waitFor(reached, { what: 'the other replica to reach the child', timeout: 60_000, interval: 100 });
  const [own, handedOn]: [number[], number[]] = [[], []];
  for (let round = 0; round < ROUNDS; round++) {
    own.push((await bench.client.run({ target: owner, concurrency: 1, durationMs: ROUND_MS })).p50);
    handedOn.push((await bench.client.run({ target: other, concurrency: 1, durationMs: ROUND_MS })).p50);
  }
  const [a, b] = [median(handedOn), median(own)];
  return atMost('GET /version at the replica without the tunnel / with it, p50', a / b, 1.4, `${a.toFixed(2)} / ${b.toFixed(2)} ms`);
}
