import type { ApiClient } from '../lab/api-client.ts';
import { API, type HubEnv } from './env.ts';
import { type Load, startLoad } from './load.ts';

const REQUESTS: readonly (readonly [string, string])[] = [
  ['GET', `${API}/nodes`],
  ['GET', `${API}/nodes/worker-1`],
  ['GET', `${API}/nodeoperations`],
  ['POST', `${API}/nodes/worker-1/restart?dryRun=All`],
  ['GET', API],
];

/** Different requests, one after the other, `concurrency` times at once, by default as admin through kube-apiserver. Whatever is not a 2xx is a failure. */
export function startTraffic(
  env: HubEnv,
  concurrency: number,
  { client = env.lab.api, requests = REQUESTS }: { client?: ApiClient; requests?: typeof REQUESTS } = {},
): Load {
  let turn = 0;
  return startLoad(concurrency, async () => {
    const [method = '', path = ''] = requests[turn++ % requests.length] ?? [];
    const { status, text } = await client.request(method, path);
    return status >= 200 && status < 300 ? undefined : `${method} ${path}: ${status} ${text.slice(0, 200)}`;
  });
}
