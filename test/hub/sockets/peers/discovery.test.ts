import { expect, test, vi } from 'vitest';
import { peerDiscovery, peersOf } from '../../../../src/hub/sockets/peers/discovery.ts';
import { cleanUp } from '../../../support/clean-up.ts';
import { kubeApi } from '../../../support/kube-api.ts';
import { NAMESPACE, putSlice, removeSlice, SERVICE, startReplica } from './replicas.ts';

const undo = cleanUp();
const eventually = <T>(check: () => T | Promise<T>) => vi.waitFor(check, { timeout: 15_000, interval: 5 });
const metadata = { name: 'slice', resourceVersion: '1' };
const ports = [{ name: 'peers', port: 10_251, protocol: 'TCP' }];

test('peers are the endpoints of the port `peers`, ready or not', () => {
  const endpoints = [
    { addresses: ['192.0.2.1'], conditions: { ready: true }, targetRef: { uid: 'a' } },
    { addresses: ['192.0.2.2'], conditions: { ready: false }, targetRef: { uid: 'b' } },
    // `ready` that is not said means ready.
    { addresses: ['192.0.2.3'] },
    { addresses: [] },
  ];
  expect(peersOf({ metadata, addressType: 'IPv4', endpoints, ports })).toEqual([
    { key: 'a', address: '192.0.2.1', port: 10_251, ready: true },
    { key: 'b', address: '192.0.2.2', port: 10_251, ready: false },
    { key: '192.0.2.3 10251', address: '192.0.2.3', port: 10_251, ready: true },
  ]);
  expect(peersOf({ metadata, addressType: 'FQDN', endpoints, ports })).toEqual([]);
  expect(peersOf({ metadata, addressType: 'IPv4', endpoints, ports: [{ name: 'https', port: 10_250 }] })).toEqual([]);
  expect(peersOf({ metadata, addressType: 'IPv4', endpoints, ports: [{ name: 'peers', port: 1, protocol: 'UDP' }] })).toEqual([]);
  expect(peersOf({ metadata, addressType: 'IPv4', endpoints: null, ports: null })).toEqual([]);
});

test('slices of other Services do not count, and a pod with two address families is one peer', async () => {
  const api = await kubeApi();
  undo.after(() => api.close());
  const slice = (name: string, service: string, addressType: string, address: string) =>
    api.put(`/apis/discovery.k8s.io/v1/namespaces/${NAMESPACE}/endpointslices`, {
      metadata: { name, labels: { 'kubernetes.io/service-name': service } },
      ...{ addressType, ports, endpoints: [{ addresses: [address], targetRef: { uid: 'pod' } }] },
    });
  slice('other', 'other', 'IPv4', '192.0.2.9');
  slice('v6', SERVICE, 'IPv6', '2001:db8::1');
  slice('v4', SERVICE, 'IPv4', '192.0.2.1');
  const onError = vi.fn();
  const discovery = peerDiscovery({ client: api.client, namespace: NAMESPACE, service: SERVICE, signal: undo.signal(), onError });
  expect(discovery.problem()).toBeDefined();
  await eventually(() => expect(discovery.addresses().map(({ address }) => address)).toEqual(['192.0.2.1']));
  expect(discovery.problem()).toBeUndefined();
  expect(onError).not.toHaveBeenCalled();
});

test('a peer that cannot be reached delays readiness only until it was tried', async () => {
  const api = await kubeApi();
  undo.after(() => api.close());
  const gone = await startReplica(api, 'gone', { signal: undo.signal() });
  const { port } = gone.peers;
  await gone.peers.close(0);
  putSlice(api, 'gone', port);
  const heal = api.fault(({ path }) => (path.includes('/endpointslices') ? { code: 403 } : undefined));
  const one = await startReplica(api, 'hub-1', { signal: undo.signal() });
  undo.after(() => one.peers.close(0));
  await eventually(() => expect(one.peers.check()).toContain('403'));
  heal();
  await eventually(() => expect(one.peers.check()).toBeUndefined());
  expect([one.peers.replicas(), one.peers.find('c1')]).toEqual([2, undefined]);
  expect(one.news.some((text) => text.includes('no connection to the replica'))).toBe(true);
  putSlice(api, 'gone', port, false);
  await eventually(() => expect(one.peers.replicas()).toBe(1));
  removeSlice(api, 'gone');
  // What was known once stays known.
  expect(one.peers.check()).toBeUndefined();
});
