import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Registry } from 'prom-client';
import { describe, expect, test } from 'vitest';
import { auditMetrics } from '../../src/hub/audit/metrics.ts';
import { certificateMetrics } from '../../src/hub/certificates/metrics.ts';
import { clusterMetrics } from '../../src/hub/clusters/metrics.ts';
import { httpMetrics } from '../../src/hub/http/metrics.ts';
import { nodeMetrics } from '../../src/hub/nodes/metrics.ts';
import { socketMetrics } from '../../src/hub/sockets/metrics.ts';
import { peerMetrics } from '../../src/hub/sockets/peers/metrics.ts';
import { tunnelDirectory } from '../../src/hub/sockets/tunnel-directory.ts';
import { makeCa, makeServer } from '../hub/auth/pki.ts';
import { at, buildWith, deploy, one } from './kustomize.ts';

type Alert = { alert: string; expr: string; for?: string; labels: { severity: string }; annotations: Record<string, string> };
type Target = { expr: string; legendFormat: string };
type Panel = { id: number; type: string; title: string; targets?: Target[]; gridPos: { x: number; y: number; w: number; h: number } };

/** What Prometheus adds to every series of a target that the operator discovered. */
const targetLabels = ['job', 'pod', 'instance', 'namespace', 'service', 'container', 'endpoint'];
const functions = [
  ...['absent', 'changes', 'count', 'histogram_quantile', 'increase', 'max', 'min', 'rate', 'sum', 'time'],
  ...['or', 'and', 'unless', 'offset', 'by'],
];

/** Series that the hub exports, each with the labels it can have; from the registries of the code itself. */
async function exported(): Promise<Map<string, string[]>> {
  const http = httpMetrics(() => true);
  auditMetrics(http.registry, { problem: () => undefined, lost: () => 0 });
  certificateMetrics(http.registry, () => makeServer(makeCa('ca')));
  const nodes = new Registry();
  nodeMetrics(nodes);
  const clusters = new Registry();
  clusterMetrics(clusters, { approved: () => 0, connected: () => 0 });
  socketMetrics(clusters, tunnelDirectory());
  peerMetrics(clusters, { peers: () => 0, tunnels: () => 0 });
  const series = new Map<string, string[]>([['up', []]]);
  for (const registry of [http.registry, nodes, clusters]) {
    for (const { name } of await registry.getMetricsAsJSON()) {
      const metric = registry.getSingleMetric(name);
      // prom-client keeps the label names and the kind on the metric, but not in its types.
      const labels = at<string[] | undefined>(metric, 'labelNames') ?? [];
      if (at<unknown[] | undefined>(metric, 'buckets') === undefined) series.set(name, labels);
      else
        for (const [suffix, own] of [
          ['_bucket', ['le']],
          ['_sum', []],
          ['_count', []],
        ] as const)
          series.set(name + suffix, [...labels, ...own]);
    }
  }
  return series;
}

/** Names that an expression uses: series with the labels of their selectors, labels of `by`, and whatever else is a word. */
function namesIn(expr: string): { series: { name: string; labels: string[] }[]; grouped: string[]; words: string[] } {
  const plain = expr.replaceAll(/"(?:[^"\\]|\\.)*"/g, '""').replaceAll(/\[[^\]]*\]/g, '');
  const series = [...plain.matchAll(/([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}/g)].map(([, name = '', selector = '']) => ({
    name,
    labels: [...selector.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)].map(([, label = '']) => label),
  }));
  const grouped = [...plain.matchAll(/\bby\s*\(([^)]*)\)/g)].flatMap(([, labels = '']) => labels.split(',').map((label) => label.trim()));
  const rest = plain
    .replaceAll(/([a-zA-Z_:][\w:]*)\s*\{[^}]*\}/g, ' ')
    .replaceAll(/\bby\s*\([^)]*\)/g, ' by ')
    .replaceAll(/\b\d+[smhd]\b/g, ' ');
  return { series, grouped, words: [...rest.matchAll(/[a-zA-Z_]\w*/g)].map(([word]) => word) };
}

function faults(expr: string, known: Map<string, string[]>): string[] {
  const { series, grouped, words } = namesIn(expr);
  const found = words.filter((word) => !functions.includes(word)).map((word) => `${word} is no function and has no selector`);
  for (const { name, labels } of series) {
    const has = known.get(name);
    if (!has) found.push(`there is no metric ${name}`);
    else for (const label of labels) if (![...has, ...targetLabels].includes(label)) found.push(`${name} has no label ${label}`);
    if (!labels.includes('job')) found.push(`${name} is not limited to the hub`);
  }
  const all = series.flatMap(({ name }) => known.get(name) ?? []);
  for (const label of grouped) if (![...all, ...targetLabels].includes(label)) found.push(`no metric here has the label ${label}`);
  return found;
}

const objects = buildWith('hub', ['servicemonitor', 'alerts', 'dashboard']);
const alerts = at<{ rules: Alert[] }[]>(one(objects, 'PrometheusRule', 'fairlead-hub'), 'spec.groups').flatMap((group) => group.rules);

test('the check of expressions can refuse', async () => {
  const known = await exported();
  expect(faults('sum(rate(fairlead_hub_requests_total{job="fairlead-hub",code="429"}[5m])) > 0.1', known)).toEqual([]);
  expect(faults('sum(rate(fairlead_hub_request_total{job="fairlead-hub"}[5m]))', known)).toEqual([
    'there is no metric fairlead_hub_request_total',
  ]);
  expect(faults('fairlead_hub_requests_total', known)).toHaveLength(1);
  expect(faults('sum by (node) (fairlead_node_operations_active{job="fairlead-hub"})', known)).toHaveLength(1);
  expect(faults('fairlead_node_operations_active{job="fairlead-hub",node="a"}', known)).toHaveLength(1);
  expect(faults('up{}', known)).toHaveLength(1);
});

describe('alerts', () => {
  test.each(alerts)('$alert names metrics and labels that the hub has', async ({ expr }) => {
    expect(faults(expr, await exported())).toEqual([]);
  });

  test.each(alerts)('$alert says what is wrong, how bad it is and what to do', ({ alert, expr, labels, annotations }) => {
    expect(['critical', 'warning', 'info']).toContain(labels.severity);
    expect(Object.keys(annotations).sort()).toEqual(['description', 'runbook_url', 'summary']);
    const { hash, pathname } = new URL(annotations['runbook_url'] ?? '');
    expect(pathname).toMatch(/\/deploy\/README\.md$/);
    // GitHub makes an anchor of a heading in lower case.
    const headings = [...readFileSync(join(deploy, 'README.md'), 'utf8').matchAll(/^#+ (\S+)$/gm)].map(([, text = '']) => text);
    expect(headings).toContain(alert);
    expect(hash).toBe(`#${alert.toLowerCase()}`);
    const used = [
      ...Object.values(annotations)
        .join()
        .matchAll(/\$labels\.(\w+)/g),
    ].map(([, label = '']) => label);
    const { grouped } = namesIn(expr);
    for (const label of used) expect(grouped.length > 0 ? grouped : targetLabels).toContain(label);
  });

  test('every runbook belongs to an alert', () => {
    const headings = [...readFileSync(join(deploy, 'README.md'), 'utf8').matchAll(/^### (Fairlead\w+)$/gm)].map(([, text = '']) => text);
    expect(headings).toEqual(alerts.map((one) => one.alert));
  });

  test('the job in the expressions is what the ServiceMonitor makes of the Service', () => {
    const label = at<string>(one(objects, 'ServiceMonitor', 'fairlead-hub'), 'spec.jobLabel');
    const service = one(objects, 'Service', 'fairlead-hub');
    expect(service.metadata.labels?.[label]).toBe('fairlead-hub');
    expect(service.metadata.labels).toMatchObject(at<object>(one(objects, 'ServiceMonitor', 'fairlead-hub'), 'spec.selector.matchLabels'));
    expect(at(one(objects, 'ServiceMonitor', 'fairlead-hub'), 'spec.endpoints.0.port')).toBe(at(service, 'spec.ports.0.name'));
  });
});

describe('dashboard', () => {
  const map = one(objects, 'ConfigMap', 'fairlead-dashboard');
  const dashboard = JSON.parse(at<Record<string, string>>(map, 'data')['fairlead.json'] ?? '') as { panels: Panel[]; templating: object };
  const targets = dashboard.panels.flatMap(({ title, targets = [] }) => targets.map((target) => ({ title, ...target })));

  test('the sidecar of Grafana finds it', () => {
    expect(map.metadata.labels?.['grafana_dashboard']).toBe('1');
  });

  test.each(targets)('$title: $legendFormat names metrics and labels that the hub has', async ({ expr, legendFormat }) => {
    expect(faults(expr, await exported())).toEqual([]);
    const { grouped } = namesIn(expr);
    for (const [, label = ''] of legendFormat.matchAll(/\{\{(\w+)\}\}/g))
      expect(grouped.length > 0 ? grouped : targetLabels).toContain(label);
  });

  test('panels have ids of their own and do not overlap', () => {
    expect(new Set(dashboard.panels.map((panel) => panel.id)).size).toBe(dashboard.panels.length);
    const cells = dashboard.panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, i) => `${x + (i % w)},${y + Math.floor(i / w)}`),
    );
    expect(new Set(cells).size).toBe(cells.length);
    expect(Math.max(...dashboard.panels.map(({ gridPos: { x, w } }) => x + w))).toBe(24);
  });
});
