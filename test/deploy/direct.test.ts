import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { parseOptions } from '../../src/hub/options.ts';
import { at, buildOverlay, buildWith, deploy, type Manifest, ofKind, one, overlays } from './kustomize.ts';

type Container = {
  args: string[];
  env: { name: string; value?: string }[];
  ports: { name: string; containerPort: number; protocol: string }[];
};

const containerOf = (objects: readonly Manifest[]): Container => {
  const container = at<Container[]>(one(objects, 'Deployment', 'fairlead-hub'), 'spec.template.spec.containers')[0];
  if (!container) throw new Error('the Deployment has no container');
  return container;
};

describe.each(overlays.filter((name) => name !== 'overlays/out-of-cluster'))('component direct with %s', (overlay) => {
  const objects = buildWith(overlay, ['direct']);
  const container = containerOf(objects);

  test('the hub accepts its arguments; the port, the address and the name in the certificate agree', () => {
    const values = new Map([
      ...container.env.map(({ name, value }) => [name, value ?? 'worker-1'] as const),
      ['POD_NAMESPACE', 'fairlead-system'],
    ]);
    const args = container.args.map((arg) => arg.replaceAll(/\$\((\w+)\)/g, (whole, name: string) => values.get(name) ?? whole));
    expect(args.join(' ')).not.toContain('$(');
    const options = parseOptions(args, {});
    if ('print' in options || !('selfMade' in options.certificate)) throw new Error('the hub would not make its certificate');
    expect(options.clusters.directPort).toBe(container.ports.find(({ name }) => name === 'direct')?.containerPort);
    expect(new Set(container.ports.map(({ containerPort }) => containerPort)).size).toBe(3);
    expect(new URL(options.clusters.directURL).hostname).toBe(values.get('FAIRLEAD_DIRECT_HOST'));
    expect(options.certificate.selfMade.extraNames).toEqual([values.get('FAIRLEAD_DIRECT_HOST')]);
  });

  test('a Service of its own leads to the port; that of the hub stays as it is', () => {
    const service = one(objects, 'Service', 'fairlead-hub-direct');
    expect(at(service, 'spec')).toEqual({
      type: 'LoadBalancer',
      selector: at(one(objects, 'Deployment', 'fairlead-hub'), 'spec.selector.matchLabels'),
      // No port in the URL, so 443.
      ports: [{ name: 'direct', port: 443, protocol: 'TCP', targetPort: 'direct' }],
    });
    expect(one(objects, 'Service', 'fairlead-hub')).toEqual(one(buildOverlay(overlay), 'Service', 'fairlead-hub'));
    // The ServiceMonitor would find its label.
    expect(service.metadata.labels).toEqual({ 'app.kubernetes.io/part-of': 'fairlead' });
  });

  test('the network policy lets in that port and no other more', () => {
    const policy = one(objects, 'NetworkPolicy', 'fairlead-hub-direct');
    const { containerPort: port, protocol } = container.ports.find(({ name }) => name === 'direct') ?? {};
    expect(at(policy, 'spec')).toEqual({
      podSelector: { matchLabels: at(one(objects, 'Deployment', 'fairlead-hub'), 'spec.template.metadata.labels') },
      policyTypes: ['Ingress'],
      ingress: [{ ports: [{ protocol, port }] }],
    });
    expect(one(objects, 'NetworkPolicy', 'fairlead-hub')).toEqual(one(buildOverlay(overlay), 'NetworkPolicy', 'fairlead-hub'));
  });

  test('everything else is as without it', () => {
    const own = ['Service/fairlead-hub-direct', 'NetworkPolicy/fairlead-hub-direct', 'Deployment/fairlead-hub'];
    const others = (list: readonly Manifest[]) => list.filter(({ kind, metadata }) => !own.includes(`${kind}/${metadata.name}`));
    expect(others(objects)).toEqual(others(buildOverlay(overlay)));
    const shared = (list: readonly Manifest[]) => {
      const { args, env, ports, ...rest } = containerOf(list);
      return { rest, kept: { args: args.slice(0, 6), env: env.slice(0, 2), ports: ports.slice(0, 2) } };
    };
    expect(shared(objects)).toEqual(shared(buildOverlay(overlay)));
  });
});

test('component direct with the hub out of the cluster: a Service, and no pods', () => {
  const objects = buildWith('overlays/out-of-cluster', ['direct']);
  expect(ofKind(objects, 'Deployment')).toEqual([]);
  expect(ofKind(objects, 'Service').map(({ metadata }) => metadata.name)).toEqual(['fairlead-hub', 'fairlead-hub-direct']);
});

test('the patch in the README sets the name, and nothing else', () => {
  const example =
    readFileSync(join(deploy, 'README.md'), 'utf8').match(/```yaml\n(components:\n[^`]*FAIRLEAD_DIRECT_HOST[^`]*)```/)?.[1] ?? '';
  const { components, patches } = parse(example.replace('hub.example.com', 'other.example.com')) as {
    components: string[];
    patches: object[];
  };
  expect(components).toEqual(['fairlead/deploy/components/direct']);
  const changed = buildWith('hub', ['direct'], { patches });
  const byName = (list: readonly Manifest[]) => [...containerOf(list).env].sort((a, b) => (a.name < b.name ? -1 : 1));
  expect(byName(changed)).toEqual(
    byName(buildWith('hub', ['direct'])).map((one) => (one.name === 'FAIRLEAD_DIRECT_HOST' ? { ...one, value: 'other.example.com' } : one)),
  );
  // The order of variables is no matter to arguments.
  const { env: _env, ...rest } = containerOf(changed);
  const { env: _before, ...before } = containerOf(buildWith('hub', ['direct']));
  expect(rest).toEqual(before);
});
