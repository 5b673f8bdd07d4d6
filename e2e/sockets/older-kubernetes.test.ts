import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type AgentProcess, startAgent } from '../lab/agent.ts';
import { type Child, startChild } from '../lab/child.ts';
import { startHub } from '../lab/hub.ts';
import { type Lab, startLab } from '../lab/lab.ts';
import { noVersion } from '../lab/tools.ts';
import { commandTests } from './commands.ts';
import { grantSockets, type Kubectl, kubectlWith } from './env.ts';

const OLDER = 'v1.35.4';
const reason = await noVersion(OLDER);

let parent: Lab;
let child: Child;
let agent: AgentProcess;
let dev: Kubectl;
beforeAll(async () => {
  if (reason !== undefined) return;
  [parent, child] = await Promise.all([startLab({ moto: false, kwok: false, nodes: [], version: OLDER }), startChild({ version: OLDER })]);
  await startHub(parent, { replicas: 2, flags: ['--shutdown-delay=0s'] });
  agent = await startAgent(child, parent);
  await grantSockets(parent, { user: 'dev', verbs: ['*'] });
  await child.grant({ kind: 'Group', name: 'devs' });
  dev = kubectlWith(parent, await agent.kubeconfigFor({ user: 'dev', groups: ['devs'] }));
});
afterAll(async () => {
  await child?.stop();
  await parent?.stop();
});
beforeEach((context) => {
  if (reason !== undefined) context.skip(reason);
});

describe(`R53: hub and agent between a parent and a child of Kubernetes ${OLDER}`, () => {
  test('the hub is available, and the child is shown with its version', async () => {
    const version = await parent.api.json<{ gitVersion: string }>('GET', '/version');
    expect(version.gitVersion).toBe(OLDER);
    const clusters = await parent.kubectl(['get', 'clusters.infraops.michael.io']);
    expect(clusters.stdout).toMatch(/^child\s.*v1\.35\.4/m);
    expect(clusters.stderr).toBe('');
  });

  commandTests(
    {
      get parent() {
        return parent;
      },
      get child() {
        return child;
      },
    },
    () => dev,
  );
});
