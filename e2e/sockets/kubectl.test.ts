import { beforeAll, describe, expect, test } from 'vitest';
import { accessTests } from './access.ts';
import { commandTests } from './commands.ts';
import { grantSockets, type Kubectl, kubectlWith, socketsEnv } from './env.ts';
import { formTests } from './forms.ts';
import { type LocalTarget, startLocalTarget } from './local-target.ts';

// Before the clusters: the agent is told its port.
let target: LocalTarget;
beforeAll(async () => {
  target = await startLocalTarget();
  return target.close;
});

// One tunnel and two replicas: about half of the requests arrive at the replica that does not hold it, and are handed on.
const env = socketsEnv({ agent: () => ({ flags: ['--tunnels=1', `--allow-target=127.0.0.1:${target.port}`] }) });

let dev: Kubectl;
beforeAll(async () => {
  await grantSockets(env.parent, { user: 'dev', verbs: ['*'], oldForms: true });
  await env.child.grant({ kind: 'Group', name: 'devs' });
  dev = kubectlWith(env.parent, await env.agent.kubeconfigFor({ user: 'dev', groups: ['devs'] }));
});

describe('a cluster that registered', () => {
  test('is shown by clsrr, mcls and clusters', async () => {
    const id = await env.agent.clusterID();
    const listed = await env.parent.kubectl(['get', 'clsrr,mcls', '-A']);
    expect(listed.stdout).toContain(`clusternet-${id}`);
    expect(listed.stdout).toMatch(/managedcluster\S*\/child\s.*v1\.36/);
    expect(listed.stdout).toContain('Approved');
    const clusters = await env.parent.kubectl(['get', 'clusters.infraops.michael.io']);
    expect(clusters.stdout).toMatch(/^child\s/m);
    expect(clusters.stderr).toBe('');
  });
});

commandTests(env, () => dev);
accessTests(env);
formTests(env, () => target);
