import { describe, expect, test, vi } from 'vitest';
import { CLUSTERS_API } from '../../../src/kube/clusternet.ts';
import { cleanUp } from '../../support/clean-up.ts';
import type { Fault, KubeApi, Seen } from '../../support/kube-api.ts';
import { ask, change, hubProcess, issueTokens, NAMESPACE, parentApi, requestIn, requestPath, world } from './harness.ts';

const { after } = cleanUp();
const until = (condition: () => void) => vi.waitFor(condition, { timeout: 20_000, interval: 10 });

type Scenario = {
  /** What happens to a cluster that is in; for registration itself nothing was there. */
  begin: (api: KubeApi) => void;
  fresh?: boolean;
  done: (api: KubeApi) => void;
};

const approved = (api: KubeApi) => expect(requestIn(api)?.status?.result).toBe('Approved');
const nothingLeft = (api: KubeApi) => expect(world(api)).toMatchObject({ status: undefined, objects: [] });

const scenarios: Record<string, Scenario> = {
  registering: { fresh: true, begin: (api) => void ask(api), done: approved },
  renewing: {
    begin: (api) => change(api, { renewal: 'again' }),
    done: (api) => expect(requestIn(api)?.status).toMatchObject({ result: 'Approved', renewal: 'again' }),
  },
  denying: { begin: (api) => change(api, { decision: 'Denied' }), done: (api) => expect(requestIn(api)?.status?.result).toBe('Denied') },
  'deleting the request': { begin: (api) => api.remove(requestPath(requestIn(api)?.spec.clusterId ?? '')), done: nothingLeft },
  'deleting the ManagedCluster': {
    begin: (api) => api.remove(`${CLUSTERS_API}/namespaces/${NAMESPACE}/managedclusters/edge`),
    done: nothingLeft,
  },
};

const isWrite = ({ method, path }: Seen) => method !== 'GET' && !path.includes('/events');

/** Brings the parent to where the scenario begins, and begins it. */
async function begun({ begin, fresh }: Scenario): Promise<KubeApi> {
  const api = await parentApi(after);
  if (!fresh) {
    const stopTokens = issueTokens(api);
    ask(api);
    const process = hubProcess(api);
    await until(() => approved(api));
    await process.stop();
    stopTokens();
  }
  begin(api);
  return api;
}

/** Runs the scenario with a process that dies at its nth write; then another one finishes. Returns whether there was an nth write. */
async function crashAt(scenario: Scenario, nth: number, how: 'refuse' | 'lose'): Promise<{ died: boolean; end: object }> {
  const api = await begun(scenario);
  let writes = 0;
  let died = false;
  const stopFault = api.fault((request): Fault | undefined => {
    if (died) return 'refuse';
    if (!isWrite(request) || ++writes !== nth) return undefined;
    died = true;
    // A TokenRequest leaves nothing behind, so that losing its answer is the same as refusing it.
    return request.path.endsWith('/token') ? 'refuse' : how;
  });
  issueTokens(api);
  const first = hubProcess(api);
  await until(() => (died ? undefined : scenario.done(api)));
  await first.stop();
  stopFault();
  const second = hubProcess(api);
  await until(() => {
    expect(second.clusters.sockets.synced()).toBe(true);
    scenario.done(api);
  });
  // It must not only get there, but come to rest there.
  let writesBefore = Number.NaN;
  await until(() => {
    const count = api.seen.filter(isWrite).length;
    const same = count === writesBefore;
    writesBefore = count;
    expect(same).toBe(true);
  });
  const end = world(api);
  await second.stop();
  return { died, end };
}

describe.each(Object.entries(scenarios))('%s', (_name, scenario) => {
  test.each(['refuse', 'lose'] as const)('ends the same whichever write the process dies at (%s)', async (how) => {
    const { end: wanted } = await crashAt(scenario, Number.POSITIVE_INFINITY, how);
    let points = 0;
    for (let nth = 1; ; nth++) {
      const { died, end } = await crashAt(scenario, nth, how);
      if (!died) break;
      points++;
      expect(end, `died at write ${nth}`).toEqual(wanted);
    }
    expect(points).toBeGreaterThan(1);
  });
});
