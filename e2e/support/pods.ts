import type { Lab } from '../lab/lab.ts';
import { waitFor } from '../lab/wait.ts';

export type PodSpec = {
  name: string;
  nodeName: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  ownerReferences?: object[];
  volumes?: object[];
};

const podsPath = '/api/v1/namespaces/default/pods';

/** Makes a pod on a node, in namespace default, and waits until it runs. */
export async function runPod(lab: Lab, { name, nodeName, labels, annotations, ownerReferences, volumes }: PodSpec): Promise<void> {
  const body = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, ...(labels && { labels }), ...(annotations && { annotations }), ...(ownerReferences && { ownerReferences }) },
    spec: { nodeName, terminationGracePeriodSeconds: 0, containers: [{ name: 'main', image: 'none' }], ...(volumes && { volumes }) },
  };
  await lab.api.json('POST', podsPath, { body });
  const running = async () => (await lab.api.json<{ status: { phase: string } }>('GET', `${podsPath}/${name}`)).status.phase === 'Running';
  await waitFor(running, { what: `pod ${name} to run` });
}

export const podExists = async (lab: Lab, name: string): Promise<boolean> =>
  (await lab.api.request('GET', `${podsPath}/${name}`)).status === 200;

export async function deletePod(lab: Lab, name: string): Promise<void> {
  await lab.api.request('DELETE', `${podsPath}/${name}`, { body: { gracePeriodSeconds: 0 } });
}

/** Makes a workload object that no controller of a lab acts on, and gives an owner reference to it. */
export async function createOwner(lab: Lab, kind: 'DaemonSet' | 'StatefulSet', name: string): Promise<object> {
  const labels = { owner: name };
  const template = { metadata: { labels }, spec: { containers: [{ name: 'main', image: 'none' }] } };
  const spec = { selector: { matchLabels: labels }, template, ...(kind === 'StatefulSet' && { serviceName: name }) };
  const body = { apiVersion: 'apps/v1', kind, metadata: { name }, spec };
  const path = `/apis/apps/v1/namespaces/default/${kind.toLowerCase()}s`;
  const { metadata } = await lab.api.json<{ metadata: { uid: string } }>('POST', path, { body });
  return { apiVersion: 'apps/v1', kind, name, uid: metadata.uid, controller: true };
}

const budgetsPath = '/apis/policy/v1/namespaces/default/poddisruptionbudgets';

/** Makes a PodDisruptionBudget that lets none of the selected pods go, and waits until it counts. */
export async function createBudget(lab: Lab, name: string, matchLabels: Record<string, string>): Promise<void> {
  const body = {
    apiVersion: 'policy/v1',
    kind: 'PodDisruptionBudget',
    metadata: { name },
    spec: { minAvailable: 1, selector: { matchLabels } },
  };
  await lab.api.json('POST', budgetsPath, { body });
  type Budget = { status?: { observedGeneration?: number } };
  const counted = async () => (await lab.api.json<Budget>('GET', `${budgetsPath}/${name}`)).status?.observedGeneration === 1;
  await waitFor(counted, { what: `PodDisruptionBudget ${name} to be counted` });
}

export async function deleteBudget(lab: Lab, name: string): Promise<void> {
  await lab.api.request('DELETE', `${budgetsPath}/${name}`);
}
