import type { Hub } from '../../e2e/lab/hub.ts';
import type { Lab } from '../../e2e/lab/lab.ts';
import { waitFor } from '../../e2e/lab/wait.ts';
import { atMost, type Row } from '../lib/report.ts';
import { median, timed } from '../lib/stats.ts';

const ROUNDS = 3;

type ApiService = { status?: { conditions?: { type: string; status: string }[] } };

async function isAvailable(lab: Lab): Promise<boolean> {
  const service = await lab.api.json<ApiService>('GET', '/apis/apiregistration.k8s.io/v1/apiservices/v1.infraops.michael.io');
  return service.status?.conditions?.some(({ type, status }) => type === 'Available' && status === 'True') ?? false;
}

/** From the start of the hub's process to APIService Available=True, in seconds, with the APIService said to be unavailable before. */
export async function availability(lab: Lab, hub: Hub): Promise<Row> {
  const seconds: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    await hub.kill(0);
    await waitFor(async () => !(await isAvailable(lab)), { what: 'the APIService to be unavailable' });
    seconds.push(
      (await timed(async () => {
        await hub.start(0);
        await hub.waitForAvailable();
      })) / 1000,
    );
  }
  const value = median(seconds);
  return atMost('hub start to APIService Available, s', value, 3, seconds.map((one) => one.toFixed(2)).join(', '));
}
