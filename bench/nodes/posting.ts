import type { Lab } from '../../e2e/lab/lab.ts';
import { waitFor } from '../../e2e/lab/wait.ts';
import { atMost, type Row } from '../lib/report.ts';
import { median, timed } from '../lib/stats.ts';

const SAMPLES = 40;

type Operation = { metadata: { name: string }; status: { phase: string } };

/** `POST restart` to 201 against creating a ConfigMap of the same size, both through kube-apiserver, in turns; the restart is over before the next turn. */
export async function posting(lab: Lab): Promise<Row> {
  const posts: number[] = [];
  const creates: number[] = [];
  for (let index = 0; index < SAMPLES; index++) {
    const body = {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: `bench-${index}`, namespace: 'default' },
      data: { text: 'x'.repeat(2_000) },
    };
    creates.push(await timed(() => lab.api.json('POST', '/api/v1/namespaces/default/configmaps', { body })));
    let name = '';
    posts.push(
      await timed(async () => {
        const operation = await lab.api.json<Operation>('POST', `/apis/infraops.michael.io/v1/nodes/${lab.node(index).name}/restart`);
        name = operation.metadata.name;
      }),
    );
    const path = `/apis/infraops.michael.io/v1/nodeoperations/${name}`;
    await waitFor(async () => (await lab.api.json<Operation>('GET', path)).status.phase === 'Succeeded', {
      what: `operation ${name}`,
      timeout: 60_000,
    });
  }
  // The first samples open connections and warm up both sides.
  const post = median(posts.slice(5));
  const create = median(creates.slice(5));
  return atMost(
    'POST restart / create ConfigMap, p50',
    post / create,
    3,
    `${post.toFixed(2)} ms / ${create.toFixed(2)} ms, ${SAMPLES - 5} each`,
  );
}
