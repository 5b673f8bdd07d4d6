import { expect, test } from 'vitest';
import { API, type HubEnv } from '../hub/env.ts';
import { createNodes } from '../lab/nodes.ts';
import { waitFor } from '../lab/wait.ts';

const ID = 'i-0123456789abcdef0';

/** ProviderIDs that somebody who may write Nodes could try. */
const crafted: readonly string[] = [
  '',
  'aws://',
  'aws:///',
  `aws://${ID}`,
  `aws:///${ID}`,
  `aws:////${ID}`,
  `aws:///us-east-1/${ID}`,
  `aws:///us-east-1a/`,
  'aws:///us-east-1a/i-0123',
  'aws:///us-east-1a/i-0123456789ABCDEF0',
  `aws:///us-east-1a/${ID} `,
  ` aws:///us-east-1a/${ID}`,
  `aws:///us-east-1a/${ID}\n`,
  `aws:///us-east-1a/${ID}\u0000`,
  `aws:///us-east-1a/${ID},i-0123456789abcdef1`,
  `aws:///us-east-1a/${ID}/i-0123456789abcdef1`,
  `aws:///us-east-1a/../us-west-2a/${ID}`,
  `aws:///us-east-1a%2f${ID}`,
  `aws:///us-east-1a/${ID}?region=us-west-2`,
  `aws:///us-east-1a/${ID}#`,
  `aws:///us-east-1a/${ID}&DryRun=true`,
  `aws:///evil.example.org/${ID}`,
  `aws:///us-east-1a.evil.example.org/${ID}`,
  `aws:///us-east-1a@evil.example.org/${ID}`,
  `aws:///US-EAST-1A/${ID}`,
  `AWS:///us-east-1a/${ID}`,
  `aws:/us-east-1a/${ID}`,
  `aws://123456789012/us-east-1a/${ID}`,
  'aws:///us-east-1a/fargate-ip-10-0-0-1.ec2.internal',
  'aws:///us-east-1a/0a1b2c3d4e-0123456789abcdef0123456789abcdef/fargate-10.0.0.1',
  'eks-hybrid:///us-east-1/cluster/mi-0123456789abcdef0',
  'kwok://worker-1',
  'gce://project/us-central1-a/instance',
  'azure:///subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/v',
  'openstack:///0a1b2c3d-0000-0000-0000-000000000000',
  'kind://docker/kind/worker-1',
  'https://169.254.169.254/latest/meta-data/',
  'file:///etc/passwd',
  `aws:///us-east-1a/i-${'0'.repeat(4_096)}`,
  `aws:///us\u2010east\u20101a/${ID}`,
];

/** Machines that a Node only claims to be. */
export function providerIDTests(env: HubEnv): void {
  const calls = () => [...env.lab.ec2.gate.arrivals().values()].reduce((sum, count) => sum + count, 0);
  const post = async (node: string, query = '') => {
    const { status, text } = await env.lab.api.request('POST', `${API}/nodes/${node}/restart${query}`);
    return { status, object: JSON.parse(text) as { message: string; details?: { causes?: { reason: string; field: string }[] } } };
  };
  const known = (name: string) =>
    waitFor(async () => (await post(name, '?dryRun=All')).status !== 404, { what: `the hub to know ${name}` });

  test(`R18: ${crafted.length} crafted ProviderIDs are 422, two Nodes with one instance 409, and the cloud is never called`, async () => {
    expect(new Set(crafted).size).toBe(40);
    const specs = crafted.map((providerID, index) => ({ name: `crafted-${index}`, providerID }));
    const victim = env.lab.node(1);
    const twin = { name: 'twin', zone: victim.zone, providerID: victim.providerID };
    const made: string[] = [];
    try {
      for (const spec of [...specs, twin]) {
        await createNodes(env.lab.api, [spec], async () => []);
        made.push(spec.name);
      }
      const before = calls();
      await waitFor(async () => (await post('crafted-39')).status === 422, { what: 'the hub to know the crafted nodes' });
      const answers: string[] = [];
      for (const { name, providerID } of specs) {
        for (const query of ['', '?force=true', '?dryRun=All']) {
          const { status, object } = await post(name, query);
          const [cause] = object.details?.causes ?? [];
          if (status !== 422 || cause?.field !== 'spec.providerID')
            answers.push(`${JSON.stringify(providerID)}${query}: ${status} ${object.message}`);
          expect(object.message.length).toBeLessThan(2_000);
        }
        const instance = await env.lab.api.request('GET', `${API}/nodes/${name}/instance`);
        if (instance.status !== 422) answers.push(`${JSON.stringify(providerID)} instance: ${instance.status}`);
      }
      expect(answers).toEqual([]);
      // A list with all of them is well formed, and says why each is not supported.
      const list = JSON.parse(await env.kubectl(['get', 'nodes.infraops.michael.io', '-o', 'json'])) as {
        items: { metadata: { name: string }; status: { unsupported?: string } }[];
      };
      expect(list.items.filter(({ metadata, status }) => metadata.name.startsWith('crafted-') && !status.unsupported)).toEqual([]);
      const sent = calls();
      expect(sent).toBe(before);

      for (const name of [victim.name, twin.name]) {
        for (const query of ['', '?force=true']) {
          const { status, object } = await post(name, query);
          expect(status, `${name}${query}`).toBe(409);
          expect(object.details?.causes?.map(({ field }) => field)).toContain('UniqueMachine');
        }
      }
      expect(calls()).toBe(before);
    } finally {
      for (const name of made) await env.lab.api.request('DELETE', `/api/v1/nodes/${name}`);
    }
    await known(victim.name);
    await waitFor(async () => (await post(victim.name, '?dryRun=All')).object.message === undefined, { what: 'the twin to be forgotten' });
  });
}
