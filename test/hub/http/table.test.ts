import { expect, test } from 'vitest';
import { age, humanDuration } from '../../../src/hub/http/duration.ts';
import { PARTIAL, TABLE } from '../../../src/hub/http/negotiate.ts';
import { convertObject, includeObject, toPartialList, toTable, watchConverter } from '../../../src/hub/http/table.ts';
import type { InfraNode } from '../../../src/hub/nodes/schema.ts';
import { nodes } from '../discovery/resources.ts';

const NOW = Date.parse('2026-05-01T12:00:00Z');
const node = (name: string, creationTimestamp = '2026-05-01T11:55:00Z'): InfraNode => ({
  apiVersion: 'infraops.michael.io/v1',
  kind: 'InfraNode',
  metadata: { name, creationTimestamp, resourceVersion: '7', labels: { zone: 'a' } },
  spec: { providerID: `aws:///z/${name}` },
});

const S = 1_000;
const M = 60 * S;
const H = 60 * M;
const D = 24 * H;
test.each([
  [-1.5 * S, '0s'],
  [-0.5 * S, '0s'],
  [-2 * S, '<invalid>'],
  [Number.NaN, '<invalid>'],
  [0, '0s'],
  [119 * S, '119s'],
  [2 * M, '2m'],
  [9 * M + 59 * S, '9m59s'],
  [10 * M + 59 * S, '10m'],
  [179 * M, '179m'],
  [3 * H, '3h'],
  [7 * H + 59 * M, '7h59m'],
  [8 * H + 30 * M, '8h'],
  [47 * H, '47h'],
  [48 * H, '2d'],
  [3 * D + 4 * H, '3d4h'],
  [8 * D + 5 * H, '8d'],
  [729 * D, '729d'],
  [730 * D, '2y'],
  [730 * D + 10 * D, '2y10d'],
  [365 * 8 * D + D, '8y'],
])('%d ms is %s', (milliseconds, text) => expect(humanDuration(milliseconds)).toBe(text));

test('an age is a duration; no time and no readable time are <unknown>', () => {
  expect(age('2026-05-01T11:55:00Z', NOW)).toBe('5m');
  for (const time of [undefined, null, '', 'yesterday']) expect(age(time, NOW)).toBe('<unknown>');
});

test('a list becomes a Table: ListMeta passes through, rows hold metadata, nothing is copied', () => {
  const items = [node('a'), node('b', '2026-04-28T08:00:00Z')];
  const metadata = { resourceVersion: '99', continue: 'token', remainingItemCount: 5 };
  const table = toTable(nodes.columns, { kind: 'InfraNodeList', metadata, items }, 'Metadata', NOW);
  expect(table).toMatchObject({ kind: 'Table', apiVersion: 'meta.k8s.io/v1', metadata });
  expect(table.columnDefinitions?.map((column) => [column.name, column.type, column.priority])).toEqual([
    ['Name', 'string', 0],
    ['Cloud', 'string', 0],
    ['Age', 'string', 0],
    ['Provider ID', 'string', 1],
  ]);
  expect(table.rows.map((row) => row.cells)).toEqual([
    ['a', null, '5m', 'aws:///z/a'],
    ['b', null, '3d4h', 'aws:///z/b'],
  ]);
  const [first] = table.rows;
  expect(first?.object).toEqual({ kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata: items[0]?.metadata });
});

test('includeObject chooses what rows hold; an unknown value is a 400', () => {
  const one = node('a');
  const rows = (value: string) => toTable(nodes.columns, one, includeObject(new URLSearchParams(value)), NOW).rows;
  expect(rows('includeObject=None')).toEqual([{ cells: ['a', null, '5m', 'aws:///z/a'] }]);
  expect(rows('includeObject=Object')[0]?.object).toBe(one);
  expect(rows('')[0]?.object).toMatchObject({ kind: 'PartialObjectMetadata' });
  expect(() => includeObject(new URLSearchParams('includeObject=all'))).toThrow('includeObject: Invalid value: "all"');
});

test('a Table of one object has its resourceVersion; an empty list has definitions and no rows', () => {
  expect(toTable(nodes.columns, node('a'), 'None', NOW).metadata).toEqual({ resourceVersion: '7' });
  const empty = toTable(nodes.columns, { metadata: { resourceVersion: '1' }, items: [] });
  expect(empty.rows).toEqual([]);
  expect(empty.columnDefinitions).toHaveLength(4);
});

test('a watch sends the definitions with its first printed event only; a bookmark does not use them up; ERROR stays a Status', () => {
  const convert = watchConverter(TABLE, nodes.columns, 'None');
  const bookmarked = { metadata: { resourceVersion: '5', annotations: { 'k8s.io/initial-events-end': 'true' } } };
  const bookmark = convert({ type: 'BOOKMARK', object: bookmarked }, NOW);
  expect(bookmark).toMatchObject({ type: 'BOOKMARK', object: { kind: 'Table', metadata: { resourceVersion: '5' } } });
  expect(bookmark.object).toMatchObject({ rows: [{ cells: [null, null, null, null], object: bookmarked }] });
  const events = ['ADDED', 'MODIFIED', 'DELETED'].map((type) => convert({ type, object: node('a') }, NOW));
  expect(events.map((event) => (event.object as { columnDefinitions: unknown }).columnDefinitions)).toEqual([
    expect.any(Array),
    null,
    null,
  ]);
  const status = { kind: 'Status', code: 410 };
  expect(convert({ type: 'ERROR', object: status })).toEqual({ type: 'ERROR', object: status });
});

test('a watch without conversion is untouched, one of PartialObjectMetadata is stripped', () => {
  const event = { type: 'ADDED', object: node('a') };
  expect(watchConverter(undefined, nodes.columns)(event)).toBe(event);
  const { object } = watchConverter(PARTIAL, nodes.columns)(event);
  expect(object).toEqual({ kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata: event.object.metadata });
});

test('PartialObjectMetadataList keeps ListMeta; a Status is never converted', () => {
  const list = toPartialList({ metadata: { resourceVersion: '3', continue: 'c' }, items: [node('a')] });
  expect(list).toMatchObject({
    kind: 'PartialObjectMetadataList',
    metadata: { resourceVersion: '3', continue: 'c' },
    items: [{ metadata: { name: 'a' } }],
  });
  expect(JSON.stringify(list)).not.toContain('providerID');
  const status = { kind: 'Status', status: 'Failure' };
  expect(convertObject(TABLE, nodes.columns, status, new URLSearchParams())).toBe(status);
});

test('the rows of a Table of 5,000 objects point to the metadata that is there', () => {
  const items = Array.from({ length: 5_000 }, (_, index) => node(`node-${index}`));
  const table = toTable(nodes.columns, { metadata: {}, items }, 'Metadata', NOW);
  expect(table.rows).toHaveLength(5_000);
  for (const [index, row] of table.rows.entries()) expect((row.object as InfraNode).metadata === items[index]?.metadata).toBe(true);
});
