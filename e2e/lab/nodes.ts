import { randomUUID } from 'node:crypto';
import type { ApiClient } from './api-client.ts';
import { eachOf } from './each.ts';

/** A node to make. */
export type NodeSpec = {
  name: string;
  /** Default us-east-1a. */
  zone?: string;
  /** The usual label and taint of kubeadm; default false. */
  controlPlane?: boolean;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  unschedulable?: boolean;
  /** Default: `aws:///ZONE/INSTANCE` of an EC2 instance launched for it. With a ProviderID of your own nothing is launched. */
  providerID?: string;
  /** Port on 127.0.0.1 where a kubelet (kwok) serves exec, logs and port-forward; default: nobody does. */
  kubeletPort?: number;
};

/** A node that was made. */
export type LabNode = { name: string; zone: string; controlPlane: boolean; providerID: string; instanceID: string };

/** The Node fields that labs look at. */
export type KubeNode = {
  metadata: { name: string; labels?: Record<string, string>; annotations?: Record<string, string>; resourceVersion: string };
  spec: { providerID?: string; unschedulable?: boolean; taints?: Array<{ key: string; effect: string }> };
  status: { conditions?: Array<{ type: string; status: string; reason?: string }>; nodeInfo: { bootID: string } };
};

/** Five nodes of the demo: one control plane and four workers in two zones. */
export const demoNodes: readonly NodeSpec[] = [
  { name: 'control-plane-1', zone: 'us-east-1a', controlPlane: true },
  { name: 'worker-1', zone: 'us-east-1a' },
  { name: 'worker-2', zone: 'us-east-1a' },
  { name: 'worker-3', zone: 'us-east-1b' },
  { name: 'worker-4', zone: 'us-east-1b' },
];

/**
 * `count` worker nodes over two zones: worker-0001... Only the first `launched` get an instance of moto, which takes 5 to 10 ms for each; the
 * ProviderIDs of the others name instances that do not exist.
 */
export function workerNodes(count: number, launched = count): NodeSpec[] {
  return Array.from({ length: count }, (_, index) => {
    const zone = index % 2 === 0 ? 'us-east-1a' : 'us-east-1b';
    const missing = `aws:///${zone}/i-${index.toString(16).padStart(17, '0')}`;
    return { name: `worker-${String(index + 1).padStart(4, '0')}`, zone, ...(index < launched ? {} : { providerID: missing }) };
  });
}

/** The status and reason of the Ready condition; Unknown when there is none. */
export function readyCondition(node: KubeNode): { status: string; reason: string } {
  const ready = node.status.conditions?.find((condition) => condition.type === 'Ready');
  return { status: ready?.status ?? 'Unknown', reason: ready?.reason ?? '' };
}

export const isReady = (node: KubeNode): boolean => readyCondition(node).status === 'True';

function nodeObject(spec: NodeSpec, node: LabNode, privateIP: string): object {
  const now = new Date().toISOString();
  const condition = (type: string, status: string, reason: string, message: string) => {
    return { type, status, reason, message, lastHeartbeatTime: now, lastTransitionTime: now };
  };
  const resources = { cpu: '4', memory: '16Gi', pods: '110', 'ephemeral-storage': '100Gi' };
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: {
      name: node.name,
      labels: {
        'kubernetes.io/hostname': node.name,
        'kubernetes.io/os': 'linux',
        'kubernetes.io/arch': 'amd64',
        'node.kubernetes.io/instance-type': 'm5.xlarge',
        'topology.kubernetes.io/region': node.zone.replace(/[a-z]$/, ''),
        'topology.kubernetes.io/zone': node.zone,
        ...(node.controlPlane ? { 'node-role.kubernetes.io/control-plane': '' } : {}),
        ...spec.labels,
      },
      ...(spec.annotations ? { annotations: spec.annotations } : {}),
    },
    spec: {
      providerID: node.providerID,
      ...(spec.unschedulable ? { unschedulable: true } : {}),
      ...(node.controlPlane ? { taints: [{ key: 'node-role.kubernetes.io/control-plane', effect: 'NoSchedule' }] } : {}),
    },
    status: {
      phase: 'Running',
      capacity: resources,
      allocatable: resources,
      ...(spec.kubeletPort === undefined ? {} : { daemonEndpoints: { kubeletEndpoint: { Port: spec.kubeletPort } } }),
      addresses: [
        { type: 'InternalIP', address: spec.kubeletPort === undefined ? privateIP : '127.0.0.1' },
        { type: 'Hostname', address: node.name },
      ],
      conditions: [
        condition('MemoryPressure', 'False', 'KubeletHasSufficientMemory', 'kubelet has sufficient memory available'),
        condition('DiskPressure', 'False', 'KubeletHasNoDiskPressure', 'kubelet has no disk pressure'),
        condition('PIDPressure', 'False', 'KubeletHasSufficientPID', 'kubelet has sufficient PID available'),
        condition('Ready', 'True', 'KubeletReady', 'kubelet is posting ready status'),
      ],
      nodeInfo: {
        bootID: randomUUID(),
        machineID: randomUUID().replaceAll('-', ''),
        systemUUID: randomUUID(),
        architecture: 'amd64',
        operatingSystem: 'linux',
        osImage: 'Debian GNU/Linux 12 (bookworm)',
        kernelVersion: '6.12.0',
        kubeletVersion: 'v1.36.3',
        kubeProxyVersion: '',
        containerRuntimeVersion: 'containerd://2.4.2',
      },
    },
  };
}

/** Makes a Ready node for each spec, with the given instances (`launch` gets zone and count and answers ids with private addresses). */
export async function createNodes(
  client: ApiClient,
  specs: readonly NodeSpec[],
  launch: (zone: string, count: number) => Promise<Array<{ instanceID: string; privateIP: string }>>,
): Promise<LabNode[]> {
  const zoneOf = (spec: NodeSpec) => spec.zone ?? 'us-east-1a';
  const wanting = specs.filter((spec) => spec.providerID === undefined);
  const zones = [...new Set(wanting.map(zoneOf))];
  const instances = new Map<string, Array<{ instanceID: string; privateIP: string }>>();
  await Promise.all(zones.map(async (zone) => instances.set(zone, await launch(zone, wanting.filter((s) => zoneOf(s) === zone).length))));
  const made = specs.map((spec, index) => {
    const zone = zoneOf(spec);
    const controlPlane = spec.controlPlane ?? false;
    const privateIP = `10.0.${Math.floor(index / 250) % 250}.${(index % 250) + 1}`;
    if (spec.providerID !== undefined) {
      const instanceID = spec.providerID.split('/').at(-1) ?? '';
      return { spec, privateIP, node: { name: spec.name, zone, controlPlane, providerID: spec.providerID, instanceID } };
    }
    const instance = instances.get(zone)?.shift();
    if (!instance) throw new Error(`no instance was launched for node ${spec.name} in ${zone}`);
    const { instanceID } = instance;
    const node: LabNode = { name: spec.name, zone, controlPlane, instanceID, providerID: `aws:///${zone}/${instanceID}` };
    return { spec, privateIP: instance.privateIP, node };
  });
  await eachOf(made, 32, async ({ spec, node, privateIP }) => {
    await client.json('POST', '/api/v1/nodes', { body: nodeObject(spec, node, privateIP) });
  });
  return made.map(({ node }) => node);
}
