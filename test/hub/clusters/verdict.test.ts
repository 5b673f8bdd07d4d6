import { describe, expect, test } from 'vitest';
import type { Connection } from '../../../src/hub/clusters/connections.ts';
import { type Heard, silence, wantedConditions } from '../../../src/hub/clusters/verdict.ts';
import type { ManagedCluster, ManagedClusterStatus } from '../../../src/kube/clusternet.ts';

const NOW = Date.parse('2026-11-21T12:00:00Z');
const times = { unknownAfterMs: 15_000, graceMs: 30_000 };

const cluster = (status?: ManagedClusterStatus, annotations: Record<string, string> = {}): ManagedCluster => ({
  metadata: { name: 'edge', namespace: 'ns', resourceVersion: '1', annotations },
  spec: { clusterId: 'id', syncMode: 'Pull' },
  ...(status && { status: { lastObservedTime: '2020-01-01T00:00:00Z', ...status } }),
});
const tunnel = (connected: boolean, agoMs: number): Connection => ({
  connected,
  since: new Date(NOW - agoMs),
  lastSeen: new Date(NOW - agoMs),
  roundTripMs: 1,
  agentVersion: undefined,
  protocol: 'fairlead',
  tunnels: connected ? 1 : 0,
});
const heard = (firstSeenAgo: number, postedAgo?: number): Heard => ({
  firstSeen: NOW - firstSeenAgo,
  posted: postedAgo === undefined ? undefined : NOW - postedAgo,
});
const reason = (...[status, connection, was]: [ManagedClusterStatus | undefined, Connection | undefined, Heard]) =>
  silence(cluster(status), connection, was, times, NOW)?.reason;

const HOUR = 3_600_000;

describe('a cluster with a tunnel', () => {
  const socket = { useSocket: true };
  test('is known while the tunnel stands, however old its status is', () =>
    expect(reason(socket, tunnel(true, HOUR), heard(HOUR))).toBeUndefined());
  test('is unknown 15 s after the last tunnel ended, not before', () => {
    expect(reason(socket, tunnel(false, 14_999), heard(HOUR, 60_000))).toBeUndefined();
    expect(reason(socket, tunnel(false, 15_000), heard(HOUR, 60_000))).toBe('ClusterStatusUnknown');
  });
  test('a status that was on its way when the tunnel ended saves nothing', () =>
    expect(reason(socket, tunnel(false, 20_000), heard(HOUR, 19_000))).toBe('ClusterStatusUnknown'));
  test('an agent that posts although it has no tunnel is judged by what it posts, so that nothing flaps', () => {
    expect(reason({ ...socket, heartbeatFrequencySeconds: 20 }, tunnel(false, HOUR), heard(HOUR, 59_000))).toBeUndefined();
    expect(reason({ ...socket, heartbeatFrequencySeconds: 20 }, tunnel(false, HOUR), heard(HOUR, 60_000))).toBe('ClusterStatusUnknown');
  });
  test('a new leader that has not heard of a tunnel waits', () => {
    expect(reason(socket, undefined, heard(29_999))).toBeUndefined();
    expect(reason(socket, undefined, heard(30_000))).toBe('ClusterStatusUnknown');
  });
});

describe('a cluster without a tunnel', () => {
  test('is unknown after three heartbeats that this leader has missed itself', () => {
    expect(reason({ heartbeatFrequencySeconds: 10 }, undefined, heard(29_999))).toBeUndefined();
    expect(reason({ heartbeatFrequencySeconds: 10 }, undefined, heard(HOUR, 29_999))).toBeUndefined();
    expect(reason({ heartbeatFrequencySeconds: 10 }, undefined, heard(HOUR, 30_000))).toBe('ClusterStatusUnknown');
    expect(reason({}, undefined, heard(HOUR, 539_000))).toBeUndefined();
    expect(reason({}, undefined, heard(HOUR, 540_000))).toBe('ClusterStatusUnknown');
  });
  test('that never posted says so', () => {
    expect(reason(undefined, undefined, heard(44_999))).toBeUndefined();
    expect(reason(undefined, undefined, heard(45_000))).toBe('ClusterStatusNeverUpdated');
  });
});

describe('conditions', () => {
  const ready = {
    type: 'Ready',
    status: 'True',
    reason: 'ManagedClusterReady',
    message: '',
    lastTransitionTime: '2026-01-01T00:00:00Z',
  } as const;
  const silent = { reason: 'ClusterStatusUnknown', message: 'gone' };
  test('Ready becomes Unknown once, beside the other conditions', () => {
    const other = { ...ready, type: 'ClusterInit' };
    const after = wantedConditions(cluster({ conditions: [ready, other] }), silent, false, new Date(NOW));
    expect(after).toEqual([other, { type: 'Ready', status: 'Unknown', ...silent, lastTransitionTime: '2026-11-21T12:00:00Z' }]);
    expect(wantedConditions(cluster({ conditions: after ?? [] }), silent, false, new Date(NOW + HOUR))).toBeUndefined();
  });
  test('nothing is written for a cluster that is heard', () =>
    expect(wantedConditions(cluster({ conditions: [ready] }), undefined, false, new Date(NOW))).toBeUndefined());
  test('a child whose certificate is not verified shows it, until it is', () => {
    const after = wantedConditions(cluster({ conditions: [ready] }), undefined, true, new Date(NOW));
    expect(after?.map(({ type, status }) => `${type}=${status}`)).toEqual(['Ready=True', 'TLSVerified=False']);
    expect(wantedConditions(cluster({ conditions: after ?? [] }), undefined, true, new Date(NOW))).toBeUndefined();
    expect(wantedConditions(cluster({ conditions: after ?? [] }), undefined, false, new Date(NOW))).toEqual([ready]);
  });
});
