import { Agent, request } from 'node:https';
import { parentPort, workerData } from 'node:worker_threads';
import type { LoadOptions } from './load.ts';

/** The other side of load(): `concurrency` keep-alive connections that each ask again as soon as they have an answer. */
const { url, ca, cert, key, headers, concurrency, durationMs } = workerData as LoadOptions;
const agent = new Agent({ keepAlive: true, maxSockets: concurrency, ca, cert, key });

function once(): Promise<number> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { agent, headers: headers ?? {} }, (response) => {
      response.on('data', () => undefined);
      response.on('end', () => resolve(response.statusCode ?? 0));
      response.on('error', reject);
    });
    sent.on('error', reject);
    sent.end();
  });
}

let answers = 0;
let failures = 0;
let end = 0;

async function connection(): Promise<void> {
  while (performance.now() < end) {
    if ((await once()) === 200) answers++;
    else failures++;
  }
}

// The first round opens the connections and is not counted.
await Promise.all(Array.from({ length: concurrency }, once));
const began = performance.now();
end = began + durationMs;
await Promise.all(Array.from({ length: concurrency }, connection));
parentPort?.postMessage({ perSecond: (answers * 1000) / (performance.now() - began), failures });
agent.destroy();
