import { expect, test } from 'vitest';
import { watchHubNodes } from '../../src/hub/hub-nodes.ts';
import { cleanUp } from '../support/clean-up.ts';
import { kubeApi } from '../support/kube-api.ts';
import { eventually } from './auth/eventually.ts';

const SLICES = '/apis/discovery.k8s.io/v1/namespaces/fairlead-system/endpointslices';
const cleaning = cleanUp();

const slice = (name: string, service: string, endpoints: object[]) => ({
  metadata: { name, labels: { 'kubernetes.io/service-name': service } },
  addressType: 'IPv4',
  endpoints,
});

test('regression: which nodes OwnNode guards depended on the replica that answered', async () => {
  const api = await kubeApi();
  cleaning.after(() => api.close());
  const signal = cleaning.signal();
  const common = { client: api.client, namespace: 'fairlead-system', service: 'fairlead-hub', signal, onError: () => undefined };
  const leader = () => 'n1';
  const replicas = ['n1', 'n2', ''].map((own) => watchHubNodes({ ...common, own, leader }));
  const known = () => replicas.map((nodes) => nodes().toSorted());
  // Until the endpoints are known, and where they name no nodes.
  expect(known()).toEqual([['n1'], ['n1', 'n2'], ['n1']]);
  api.put(
    SLICES,
    slice('a', 'fairlead-hub', [
      { addresses: ['10.0.0.1'], conditions: { ready: true, serving: true }, nodeName: 'n1' },
      { addresses: ['10.0.0.2'], conditions: {}, nodeName: 'n2' },
      { addresses: ['10.0.0.3'], conditions: { ready: true } },
    ]),
  );
  api.put(SLICES, slice('b', 'other', [{ addresses: ['10.0.0.9'], nodeName: 'n9' }]));
  await eventually('both nodes, from all replicas', () => known().every((nodes) => `${nodes}` === 'n1,n2'));
  // A replica on a lost node serves no more, and nothing may stand in the way of restarting that node.
  api.put(SLICES, slice('a', 'fairlead-hub', [{ addresses: ['10.0.0.2'], conditions: { ready: false, serving: false }, nodeName: 'n2' }]));
  await eventually('the lost node is let go', () => known().map(String).join(' ') === 'n1 n1,n2 n1');
});
