import { afterEach, expect, test, vi } from 'vitest';
import { childTrust } from '../../../src/hub/clusters/child-trust.ts';
import { CLUSTER_ID_LABEL, CLUSTERS_API, registrationName } from '../../../src/kube/clusternet.ts';
import { cleanUp } from '../../support/clean-up.ts';
import { hubProcess, ID, parentApi, REQUESTS } from './harness.ts';

const undo = cleanUp();
afterEach(() => vi.restoreAllMocks());
const OTHER = '22222222-2222-4333-8444-555555555555';
const NAMESPACE = 'fairlead-system';
const CONFIG_MAPS = `/api/v1/namespaces/${NAMESPACE}/configmaps`;
const eventually = (check: () => void) => vi.waitFor(check, { timeout: 10_000, interval: 5 });

test('a child of a clusternet agent is known by what stands in a ConfigMap of the hub, and not by what its agent writes in the ManagedCluster', async () => {
  const api = await parentApi(undo.after);
  const trust = childTrust({ client: api.client, namespace: NAMESPACE, signal: undo.signal(), onError: () => undefined });
  const process = hubProcess(api, { settings: { childTrust: trust }, lead: false });
  undo.after(() => process.stop());
  api.put(REQUESTS, {
    metadata: { name: registrationName(ID) },
    spec: { clusterId: ID },
    status: { result: 'Approved', dedicatedNamespace: 'ns', managedClusterName: 'edge' },
  });
  api.put(`${CLUSTERS_API}/namespaces/ns/managedclusters`, {
    metadata: {
      name: 'edge',
      annotations: { 'infraops.michael.io/child-ca': 'FORGED', 'infraops.michael.io/insecure-skip-tls-verify-child': 'true' },
    },
    spec: { clusterId: ID, syncMode: 'Pull' },
  });
  const known = () => process.clusters.sockets.find(ID);
  await eventually(() => expect(known()).toMatchObject({ name: 'edge', childCA: undefined, childInsecure: false }));

  const changed = vi.fn();
  process.clusters.sockets.onChange(changed, undo.signal());
  const say = (name: string, id: string, data: Record<string, string>) =>
    api.put(CONFIG_MAPS, { metadata: { name, labels: { [CLUSTER_ID_LABEL]: id } }, data });
  say('child-of-another', OTHER, { 'insecure-skip-tls-verify': 'true' });
  say('child-edge', ID, { 'ca.crt': 'THE CA' });
  await eventually(() => expect(known()).toMatchObject({ childCA: 'THE CA', childInsecure: false }));
  expect(changed).toHaveBeenCalledWith(ID);
  say('child-edge', ID, { 'insecure-skip-tls-verify': 'true' });
  await eventually(() => expect(known()).toMatchObject({ childCA: undefined, childInsecure: true }));
  // Two that may contradict each other.
  say('child-edge-too', ID, { 'ca.crt': 'ANOTHER CA' });
  await eventually(() => expect(known()).toMatchObject({ childCA: undefined, childInsecure: false }));
  api.remove(`${CONFIG_MAPS}/child-edge`);
  await eventually(() => expect(known()).toMatchObject({ childCA: 'ANOTHER CA', childInsecure: false }));
});
