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
