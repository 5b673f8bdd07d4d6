import type { Hub } from '../../e2e/lab/hub.ts';
import type { Lab } from '../../e2e/lab/lab.ts';
import { settledMiB } from '../lib/memory.ts';
import { atMost, type Row } from '../lib/report.ts';

const OPERATIONS = 1_000;

type ConfigMap = { metadata: { name: string; labels: Record<string, string> }; data: Record<string, string> };

/** Resident memory of a hub that has just started over all nodes and 1,000 finished operations, when nothing happens. */
export async function idleMemory(lab: Lab, hub: Hub): Promise<Row> {
  const path = `/api/v1/namespaces/${hub.namespace}/configmaps`;
  const { items } = await lab.api.json<{ items: ConfigMap[] }>('GET', `${path}?labelSelector=infraops.michael.io/phase=Succeeded`);
  for (let count = items.length; count < OPERATIONS; count++) {
    const like = items[count % items.length];
    if (!like) throw new Error('there is no finished operation to copy');
    const body = {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: `${like.metadata.name}-${count}`, labels: like.metadata.labels },
      data: like.data,
    };
    await lab.api.json('POST', path, { body });
  }
  await hub.kill(0, 'SIGTERM');
  await hub.start(0);
  await hub.waitForLeader();
  const pid = hub.replica(0).process?.pid;
  if (pid === undefined) throw new Error('the hub does not run');
  const value = await settledMiB(pid);
  return atMost('resident memory idle, MiB', value, 180, `${lab.nodes.length} nodes, ${OPERATIONS} finished operations`);
}
