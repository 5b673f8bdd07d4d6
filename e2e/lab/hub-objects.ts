import { fileURLToPath } from 'node:url';
import { parseAllDocuments } from 'yaml';
import type { Lab } from './lab.ts';

/** Where the hub and its objects are in the parent cluster, as deploy/hub names them. */
export const hubNamespace = 'fairlead-system';
export const hubServiceName = 'fairlead-hub';
export const hubServiceAccount = 'fairlead-hub';

type KubeObject = { apiVersion: string; kind: string; metadata: { name: string; namespace?: string } };
type Service = KubeObject & { spec: { selector?: unknown; ports: Array<{ name: string; port: number; targetPort?: unknown }> } };
type ApiService = KubeObject & { spec: { caBundle?: string } };

const base = fileURLToPath(new URL('../../deploy/hub', import.meta.url));

/** Who the hub is and what it and its users may do. What runs it inside a cluster (Deployment, NetworkPolicy and so on) stays out. */
const accessKinds = [
  'ServiceAccount',
  'Role',
  'ClusterRole',
  'RoleBinding',
  'ClusterRoleBinding',
  'FlowSchema',
  'PriorityLevelConfiguration',
  'CustomResourceDefinition',
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
  const documents = parseAllDocuments(await kubectlOrThrow(lab, ['kustomize', base]));
  const objects = documents.map((document) => document.toJS() as KubeObject | null).filter((object) => object !== null);
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
  replica: { index: number; ip: string; port: number },
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
    ports: [{ name: portName, port: replica.port, protocol: 'TCP' }],
    endpoints: [{ addresses: [replica.ip], conditions: { ready, serving: ready, terminating: false } }],
  };
  const path = `/apis/discovery.k8s.io/v1/namespaces/${hubNamespace}/endpointslices/${name}?fieldManager=fairlead-lab&force=true`;
  await lab.api.json('PATCH', path, { body: slice, contentType: 'application/apply-patch+yaml' });
}
