import type { V1Deployment } from '@kubernetes/client-node';
import { stringify } from 'yaml';
import type { ClusterSpec } from '../../../../kube/lifecycle.ts';
import type { Action, Step, StepContext } from '../../operations/step.ts';
import { getFromKube } from '../common/kube-access.ts';
import { kubectl } from '../common/kubectl.ts';
import { podReady, podsIn, waitApi, whyNotReady } from '../common/node-state.ts';
import { step } from '../common/run.ts';
import { registryHost } from './containerd-config.ts';
import { addOnImage, presentImages } from './images.ts';
import { ADMIN_CONF } from './paths.ts';

const NAME = 'local-path-provisioner';
const NAMESPACE = 'local-path-storage';
const FOLDER = '/opt/local-path-provisioner';
export const LOCAL_PATH_VERSION = 'v0.0.30';
const HELPER_IMAGE = 'docker.io/library/busybox:1.36';

export const wantsLocalPath = (spec: ClusterSpec) => spec.storage?.clusterCsi?.name === 'local-path';

/** `helper`: what makes and removes the folders of volumes. */
export type LocalPathImages = { provisioner: string; helper: string };

/** Images as the provisioner's own manifest names them. */
export function localPathImages({ storage }: Pick<ClusterSpec, 'storage'>): LocalPathImages {
  return { provisioner: `docker.io/rancher/${NAME}:${storage?.clusterCsi?.version || LOCAL_PATH_VERSION}`, helper: HELPER_IMAGE };
}

/** Objects of Rancher's local path provisioner: volumes are folders of the node. Its storage class is the default one. */
export function localPathManifest({ provisioner, helper }: LocalPathImages): string {
  const named = { name: NAME, namespace: NAMESPACE };
  const subjects = [{ kind: 'ServiceAccount', ...named }];
  const roleRef = (kind: string) => ({ apiGroup: 'rbac.authorization.k8s.io', kind, name: NAME });
  const rule = (apiGroups: string[], resources: string[], verbs: string[]) => ({ apiGroups, resources, verbs });
  const helperPod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'helper-pod' },
    spec: {
      priorityClassName: 'system-node-critical',
      containers: [{ name: 'helper-pod', image: helper, imagePullPolicy: 'IfNotPresent' }],
    },
  };
  const data = {
    'config.json': JSON.stringify({ nodePathMap: [{ node: 'DEFAULT_PATH_FOR_NON_LISTED_NODES', paths: [FOLDER] }] }),
    setup: '#!/bin/sh\nset -eu\nmkdir -m 0777 -p "$VOL_DIR"\n',
    teardown: '#!/bin/sh\nset -eu\nrm -rf "$VOL_DIR"\n',
    'helperPod.yaml': stringify(helperPod),
  };
  const container = {
    name: NAME,
    image: provisioner,
    imagePullPolicy: 'IfNotPresent',
    command: [NAME, 'start', '--config', '/etc/config/config.json'],
    volumeMounts: [{ name: 'config', mountPath: '/etc/config/' }],
    env: [
      { name: 'POD_NAMESPACE', valueFrom: { fieldRef: { fieldPath: 'metadata.namespace' } } },
      { name: 'CONFIG_MOUNT_PATH', value: '/etc/config/' },
      // The helper pods' account; the provisioner would take one of another name.
      { name: 'SERVICE_ACCOUNT_NAME', value: NAME },
    ],
  };
  const objects = [
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } },
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: named },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'Role',
      metadata: named,
      rules: [rule([''], ['pods'], ['get', 'list', 'watch', 'create', 'patch', 'update', 'delete'])],
    },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRole',
      metadata: { name: NAME },
      rules: [
        rule([''], ['nodes', 'persistentvolumeclaims', 'configmaps', 'pods', 'pods/log'], ['get', 'list', 'watch']),
        rule([''], ['persistentvolumes'], ['get', 'list', 'watch', 'create', 'patch', 'update', 'delete']),
        rule([''], ['events'], ['create', 'patch']),
        rule(['storage.k8s.io'], ['storageclasses'], ['get', 'list', 'watch']),
      ],
    },
    { apiVersion: 'rbac.authorization.k8s.io/v1', kind: 'RoleBinding', metadata: named, roleRef: roleRef('Role'), subjects },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRoleBinding',
      metadata: { name: NAME },
      roleRef: roleRef('ClusterRole'),
      subjects,
    },
    { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'local-path-config', namespace: NAMESPACE }, data },
    {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: named,
      spec: {
        replicas: 1,
        selector: { matchLabels: { app: NAME } },
        template: {
          metadata: { labels: { app: NAME } },
          spec: {
            serviceAccountName: NAME,
            containers: [container],
            volumes: [{ name: 'config', configMap: { name: 'local-path-config' } }],
          },
        },
      },
    },
    {
      apiVersion: 'storage.k8s.io/v1',
      kind: 'StorageClass',
      metadata: { name: 'local-path', annotations: { 'storageclass.kubernetes.io/is-default-class': 'true' } },
      provisioner: 'rancher.io/local-path',
      volumeBindingMode: 'WaitForFirstConsumer',
      reclaimPolicy: 'Delete',
    },
  ];
  return objects.map((object) => stringify(object, { lineWidth: 0, aliasDuplicateObjects: false })).join('---\n');
}

/**
 * Waits until the provisioner of `spec` runs, where its image is there or a private registry has it: without one it is pulled later, or never, and claims wait for it as they do for
 * any pod.
 */
export const waitLocalPath = (spec: ClusterSpec): Action => ({
  kind: 'wait',
  text: 'the local-path provisioner is available',
  timeoutMs: 300_000,
  until: async (machine, signal) => {
    if (!registryHost(spec) && !(await presentImages(machine)).includes(localPathImages(spec).provisioner)) return true;
    const path = `/apis/apps/v1/namespaces/${NAMESPACE}/deployments/${NAME}`;
    const { metadata, status } = (await getFromKube(machine, ADMIN_CONF, path, signal)) as V1Deployment;
    if (status?.observedGeneration !== metadata?.generation) throw new Error('the local-path provisioner is not looked at yet');
    // Of a new version one pod more is begun before the old one ends.
    const { updatedReplicas = 0, availableReplicas = 0, replicas = 0 } = status ?? {};
    if (updatedReplicas === 1 && availableReplicas === 1 && replicas === 1) return true;
    const pods = await podsIn(machine, ADMIN_CONF, NAMESPACE, signal, `app=${NAME}`);
    const reasons = pods.filter((pod) => !podReady(pod)).map(whyNotReady);
    throw new Error(`the local-path provisioner is ${reasons.join(', ') || 'not available yet'}`);
  },
});

/**
 * The storage class local-path with its provisioner. The folder of the volumes is put back with the files. `before`: the cluster before a patch, for undo; without one everything goes
 * with the cluster. `name`: of the step.
 */
export function localPathStep(name: string, spec: ClusterSpec, before: ClusterSpec | undefined): Step {
  // What volumes hold is not turned back, nor copied.
  const inUse = before !== undefined && wantsLocalPath(before);
  const apply = async (context: StepContext, wanted: ClusterSpec): Promise<Action> => {
    const { provisioner, helper } = localPathImages(wanted);
    const at = { machine: context.machine, spec: wanted };
    const input = localPathManifest({ provisioner: await addOnImage(at, provisioner), helper: await addOnImage(at, helper) });
    return { kind: 'command', command: kubectl(ADMIN_CONF, ['apply', '--server-side', '--force-conflicts', '-f', '-'], { input }) };
  };
  return step({
    name,
    run: async (context): Promise<Action[]> => [
      ...(inUse ? [] : [{ kind: 'claim', paths: [FOLDER] } as const]),
      waitApi(ADMIN_CONF),
      await apply(context, spec),
    ],
    verify: async ({ machine, signal }) => {
      await getFromKube(machine, ADMIN_CONF, '/apis/storage.k8s.io/v1/storageclasses/local-path', signal);
    },
    undo: async (context) => {
      if (before === undefined || !(await context.machine.stat(ADMIN_CONF))) return [];
      if (inUse) return [waitApi(ADMIN_CONF), await apply(context, before)];
      const input = localPathManifest(localPathImages(spec));
      const remove = kubectl(ADMIN_CONF, ['delete', '--ignore-not-found', '--timeout=60s', '-f', '-'], { input, timeoutMs: 90_000 });
      return [waitApi(ADMIN_CONF), { kind: 'command', command: remove }];
    },
    afterCrash: 'repeat',
  });
}
