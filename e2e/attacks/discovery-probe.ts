import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { createApiClient } from '../lab/api-client.ts';

export type ProbeInput = { server: string; servername: string; ca: string; token: string; milliseconds: number };

// As the aggregator looks whether the group is available: five requests at once, and anything but a 2xx is a failure.
const { server, servername, ca, token, milliseconds } = workerData as ProbeInput;
const client = createApiClient({ server, servername, ca, credentials: { token } });
const latencies: number[] = [];
const until = performance.now() + milliseconds;
while (performance.now() < until) {
  const attempts = Array.from({ length: 5 }, async () => {
    const began = performance.now();
    await client.json('GET', '/apis/infraops.michael.io/v1');
    latencies.push(performance.now() - began);
  });
  await Promise.all(attempts);
  await sleep(100);
}
client.close();
parentPort?.postMessage(latencies);
