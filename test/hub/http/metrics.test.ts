import { expect, test } from 'vitest';
import { httpMetrics, requestLabels } from '../../../src/hub/http/metrics.ts';
import type { RequestInfo } from '../../../src/hub/http/resource.ts';
import { versionInfo } from '../../../src/hub/http/version.ts';
import { serve } from '../discovery/serve.ts';

const known = (group: string, resource: string, subresource: string) =>
  group === 'infraops.michael.io' && resource === 'nodes' && ['', 'restart', 'log'].includes(subresource);
const request = (resource: string, subresource = '', verb: 'get' | 'create' | 'watch' = 'get'): RequestInfo => ({
  kind: 'resource',
  path: `/apis/infraops.michael.io/v1/${resource}`,
  verb,
  group: 'infraops.michael.io',
  version: 'v1',
  resource,
  name: 'n',
  subresource,
  rest: '',
});

test('requests are counted once, timed unless they are streams, and shown while in flight', async () => {
  const metrics = httpMetrics(known, (info) => info.verb === 'watch');
  await using hub = await serve((incoming, response, next) => void metrics.handler(incoming, response).catch(next));
  const ended = metrics.begin();
  const watching = metrics.begin();
  expect((await hub.get('/metrics')).body).toContain('fairlead_hub_requests_in_flight 2');
  ended(request('nodes', 'restart', 'create'), 201);
  ended(request('nodes', 'restart', 'create'), 201);
  watching(request('nodes', '', 'watch'), 0);
  const { body, headers } = await hub.get('/metrics');
  expect(headers['content-type']).toMatch(/^text\/plain; version=0\.0\.4/);
  expect(body).toContain(
    'fairlead_hub_requests_total{verb="create",group="infraops.michael.io",resource="nodes",subresource="restart",code="201"} 1\n',
  );
  expect(body).toContain(
    'fairlead_hub_request_duration_seconds_count{verb="create",group="infraops.michael.io",resource="nodes",subresource="restart"} 1\n',
  );
  expect(body).not.toContain('duration_seconds_count{verb="watch"');
  expect(body).toContain('fairlead_hub_requests_in_flight 0');
  expect(body).toMatch(/^process_resident_memory_bytes \d+/m);
});

test('clients cannot make new series: what does not exist is counted as other', async () => {
  const metrics = httpMetrics(known);
  for (let index = 0; index < 1_000; index++) {
    metrics.begin()(request(`made-up-${index}`), 404);
    metrics.begin()(request('nodes', `made-up-${index}`), 404);
    metrics.begin()({ kind: 'nonResource', path: `/made-up-${index}`, verb: `VERB${index}` }, 404);
  }
  const series = (await metrics.registry.metrics()).split('\n').filter((line) => line.startsWith('fairlead_hub_requests_total{'));
  expect(series).toHaveLength(2);
  expect(requestLabels(undefined, known).verb).toBe('other');
});

test('/version has the fields of version.Info', () => {
  expect(versionInfo({ gitVersion: 'v0.1.0', gitCommit: 'abc', buildDate: '2026-01-01T00:00:00Z' })).toMatchObject({
    major: '0',
    minor: '1',
    gitVersion: 'v0.1.0',
    gitCommit: 'abc',
    buildDate: '2026-01-01T00:00:00Z',
    platform: expect.stringMatching(/^[a-z0-9]+\/[a-z0-9]+$/),
  });
  expect(() => versionInfo({ gitVersion: '0.1' })).toThrow('not a version');
});
