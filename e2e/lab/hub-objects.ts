import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseAllDocuments } from 'yaml';
import type { Lab } from './lab.ts';
import { waitFor } from './wait.ts';

/** Where the hub and its objects are in the parent cluster, as deploy/hub names them. */
export const hubNamespace = 'fairlead-system';
export const hubServiceName = 'fairlead-hub';
export const hubServiceAccount = 'fairlead-hub';

export type KubeObject = { apiVersion: string; kind: string; metadata: { name: string; namespace?: string } };
type Service = KubeObject & { spec: { selector?: unknown; ports: Array<{ name: string; port: number; targetPort?: unknown }> } };
type ApiService = KubeObject & { spec: { caBundle?: string } };

const base = fileURLToPath(new URL('../../deploy/hub', import.meta.url));
const crds = fileURLToPath(new URL('../../deploy/crds', import.meta.url));

/** Who a part is and what it and its users may do. What runs it inside a cluster (Deployment, NetworkPolicy and so on) stays out. */
export const accessKinds: readonly string[] = [
  'ServiceAccount',
  'Role',
  'ClusterRole',
  'RoleBinding',
  'ClusterRoleBinding',
  'FlowSchema',
  'PriorityLevelConfiguration',
  'CustomResourceDefinition',
  'ValidatingAdmissionPolicy',
  'ValidatingAdmissionPolicyBinding',
  'MutatingAdmissionPolicy',
  'MutatingAdmissionPolicyBinding',
];

async function kubectlOrThrow(lab: Lab, args: readonly string[], input?: string): Promise<string> {
  const { code, stdout, stderr } = await lab.kubectl(args, input === undefined ? {} : { input });
  if (code !== 0) throw new Error(`kubectl ${args.join(' ')}: ${stderr || stdout}`);
  return stdout;
}

/** Server-side apply by kubectl as admin. Rejects with kubectl's message. */
export async function applyObjects(lab: Lab, objects: readonly object[]): Promise<void> {
  const list = JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects });
  await kubectlOrThrow(lab, ['apply', '--server-side', '--force-conflicts', '--field-manager=fairlead-lab', '-f', '-'], list);
}

/** The objects of a kustomization. */
export async function kustomizeObjects(lab: Lab, folder: string): Promise<KubeObject[]> {
  const documents = parseAllDocuments(await kubectlOrThrow(lab, ['kustomize', folder]));
  return documents.map((document) => document.toJS() as KubeObject | null).filter((object) => object !== null);
}

/** Applies deploy/crds and resolves when the API server serves them. */
export async function applyCustomResources(lab: Lab): Promise<void> {
  if (!existsSync(join(crds, 'kustomization.yaml'))) return;
  const objects = await kustomizeObjects(lab, crds);
  const definitions = objects.filter(({ kind }) => kind === 'CustomResourceDefinition');
  await applyObjects(lab, definitions);
  for (const { metadata } of definitions) {
    const established = async () => {
      const path = `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${metadata.name}`;
      const { status } = await lab.api.json<{ status?: { conditions?: { type: string; status: string }[] } }>('GET', path);
      return status?.conditions?.some(({ type, status }) => type === 'Established' && status === 'True');
    };
    await waitFor(established, { what: `${metadata.name} to be established` });
  }
  await applyObjects(
    lab,
    objects.filter((object) => !definitions.includes(object)),
  );
}

const isService = (object: KubeObject): object is Service => object.kind === 'Service' && object.metadata.name === hubServiceName;
const isApiService = (object: KubeObject): object is ApiService => object.kind === 'APIService';

export type HubObjects = {
  /** Names of the APIServices that lead to the hub. */
  apiServices: string[];
  /** Name of the Service's port, which the EndpointSlices must have too. */
  portName: string;
};

/**
 * Applies deploy/hub (kustomize) without what only makes sense inside a cluster: access rules, APIServices, and the Service without its
 * selector. `caBundle` is PEM; without it the hub fills it in.
 */
export async function applyHubObjects(lab: Lab, caBundle?: string): Promise<HubObjects> {
  const objects = await kustomizeObjects(lab, base);
  const services = objects.filter(isService);
  const apiServices = objects.filter(isApiService);
  const port = services[0]?.spec.ports[0];
  if (!port || apiServices.length === 0) throw new Error(`${base} has no Service ${hubServiceName} with a port, or no APIService`);
  for (const { spec } of services) {
    delete spec.selector;
    for (const one of spec.ports) delete one.targetPort;
  }
  if (caBundle !== undefined) for (const { spec } of apiServices) spec.caBundle = Buffer.from(caBundle).toString('base64');
  await applyObjects(
    lab,
    objects.filter(({ kind }) => kind === 'Namespace'),
  );
  await applyObjects(lab, [...objects.filter(({ kind }) => accessKinds.includes(kind)), ...services, ...apiServices]);
  return { apiServices: apiServices.map(({ metadata }) => metadata.name), portName: port.name };
}

/**
 * Puts the address of one replica behind the Service, as ready or not: the part of the EndpointSlice controller. Each replica has a slice of
 * its own, because one slice has one port for all its addresses.
 */
export async function publishEndpoint(
  lab: Lab,
  replica: { index: number; ip: string; port: number; peerPort?: number; directPort?: number },
  portName: string,
  ready: boolean,
): Promise<void> {
  const name = `${hubServiceName}-${replica.index}`;
  const slice = {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name,
      namespace: hubNamespace,
      labels: { 'kubernetes.io/service-name': hubServiceName, 'endpointslice.kubernetes.io/managed-by': 'fairlead-lab' },
    },
    addressType: 'IPv4',
    ports: [
      { name: portName, port: replica.port, protocol: 'TCP' },
      ...(replica.peerPort === undefined ? [] : [{ name: 'peers', port: replica.peerPort, protocol: 'TCP' }]),
      ...(replica.directPort === undefined ? [] : [{ name: 'direct', port: replica.directPort, protocol: 'TCP' }]),
    ],
    endpoints: [{ addresses: [replica.ip], conditions: { ready, serving: ready, terminating: false } }],
  };
  const path = `/apis/discovery.k8s.io/v1/namespaces/${hubNamespace}/endpointslices/${name}?fieldManager=fairlead-lab&force=true`;
  await lab.api.json('PATCH', path, { body: slice, contentType: 'application/apply-patch+yaml' });
}
