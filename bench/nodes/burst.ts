import type { Hub } from '../../e2e/lab/hub.ts';
import type { Lab } from '../../e2e/lab/lab.ts';
import { waitFor } from '../../e2e/lab/wait.ts';
import { settledMiB } from '../lib/memory.ts';
import { atLeast, atMost, type Row } from '../lib/report.ts';

type Operation = { metadata: { name: string }; status: { phase: string } };
type List = { items: Operation[] };

/** All nodes with an instance restarted at once: every operation ends, every instance is rebooted exactly once, memory comes back. */
export async function burst(lab: Lab, hub: Hub, count: number): Promise<Row[]> {
  const pid = hub.replica(0).process?.pid;
  if (pid === undefined) throw new Error('the hub does not run');
  // A hub that has called its cloud before: the SDK, some 30 MiB, is loaded with the first call and stays.
  const first = lab.node(count - 1);
  const warm = await lab.api.json<Operation>('POST', `/apis/infraops.michael.io/v1/nodes/${first.name}/restart`);
  const path = `/apis/infraops.michael.io/v1/nodeoperations/${warm.metadata.name}`;
  await waitFor(async () => (await lab.api.json<Operation>('GET', path)).status.phase === 'Succeeded', {
    what: 'the first operation',
    timeout: 60_000,
  });
  const before = await settledMiB(pid);
  const gate = lab.ec2.gate;
  gate.reset();
  const nodes = lab.nodes.slice(0, count);
  const began = performance.now();
  const names = await Promise.all(
    nodes.map(
      async (node) => (await lab.api.json<Operation>('POST', `/apis/infraops.michael.io/v1/nodes/${node.name}/restart`)).metadata.name,
    ),
  );
  const admitted = (performance.now() - began) / 1000;
  const phases = async () => {
    const { items } = await lab.api.json<List>('GET', '/apis/infraops.michael.io/v1/nodeoperations');
    const byName = new Map(items.map((item) => [item.metadata.name, item.status.phase]));
    return names.map((name) => byName.get(name) ?? 'missing');
  };
  const isOver = (phase: string) => phase === 'Succeeded' || phase === 'Failed' || phase === 'Cancelled';
  await waitFor(async () => (await phases()).every(isOver), { what: `${count} operations to end`, timeout: 300_000, interval: 1_000 });
  const ended = (performance.now() - began) / 1000;
  const succeeded = (await phases()).filter((phase) => phase === 'Succeeded').length;
  const wrong = nodes.filter((node) => gate.count('RebootInstances', node.instanceID) !== 1).length;
  const after = await settledMiB(pid, 15_000, 120_000);
  return [
    atLeast(
      `${count} operations at once, succeeded`,
      succeeded,
      count,
      `admitted in ${admitted.toFixed(1)} s, all over after ${ended.toFixed(1)} s`,
    ),
    atMost(`${count} operations at once, instances not rebooted exactly once`, wrong, 0, 'counted where EC2 accepted'),
    atMost('memory after / before', after / before, 1.2, `${after.toFixed(0)} MiB / ${before.toFixed(0)} MiB`),
  ];
}
