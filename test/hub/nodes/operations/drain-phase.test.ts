import { expect, test, vi } from 'vitest';
import { drainNode } from '../../../../src/hub/nodes/operations/drain.ts';
import { drainPhase } from '../../../../src/hub/nodes/operations/drain-phase.ts';
import { enterPhase } from '../../../../src/hub/nodes/operations/record.ts';
import type { Run } from '../../../../src/hub/nodes/operations/run-context.ts';
import type { NodeOperationStatus } from '../../../../src/hub/nodes/schema.ts';
import { DEFAULT_NODE_SETTINGS } from '../../../../src/hub/nodes/settings.ts';
import { cleanUp } from '../../../support/clean-up.ts';
import { kubeApi } from '../../../support/kube-api.ts';

vi.mock('../../../../src/hub/nodes/operations/drain.ts', () => ({ drainNode: vi.fn(async () => undefined) }));
const cleaning = cleanUp();

test('regression: each replica that took an operation over gave its drain the whole time again', async () => {
  const api = await kubeApi();
  cleaning.after(api.close);
  api.put('/api/v1/nodes', { metadata: { name: 'n1' } });
  const begun = new Date(Date.now() - 500_000);
  let status: NodeOperationStatus = enterPhase({ phase: 'Pending' }, 'Draining', 'evicting', begun);
  const run = {
    client: api.client,
    node: 'n1',
    name: 'o1',
    settings: { ...DEFAULT_NODE_SETTINGS, namespace: 'x' },
    spec: { nodeName: 'n1', action: 'Restart', drain: true, drainTimeoutSeconds: 600, requestedBy: { username: 'u' } },
    record: {
      get status() {
        return status;
      },
      async save(change: (now: NodeOperationStatus) => NodeOperationStatus) {
        status = change(status);
      },
    },
    patiently: (work: () => unknown) => work(),
    enter: async () => undefined,
  } as unknown as Run;
  await drainPhase(run);
  const left = vi.mocked(drainNode).mock.lastCall?.[0].leftMs() ?? 0;
  expect(left).toBeGreaterThan(90_000);
  expect(left).toBeLessThanOrEqual(100_000);
});
