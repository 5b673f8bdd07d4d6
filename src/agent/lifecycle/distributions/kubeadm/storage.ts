import { stringify } from 'yaml';
import type { ClusterSpec } from '../../../../kube/lifecycle.ts';
import type { Action, Step } from '../../operations/step.ts';
import { getFromKube } from '../common/kube-access.ts';
import { kubectl } from '../common/kubectl.ts';
import { waitApi } from '../common/node-state.ts';
import { step } from '../common/run.ts';
import { ADMIN_CONF } from './paths.ts';

const NAME = 'local-path-provisioner';
const NAMESPACE = 'local-path-storage';
const FOLDER = '/opt/local-path-provisioner';
export const LOCAL_PATH_VERSION = 'v0.0.30';
const HELPER_IMAGE = 'docker.io/library/busybox:1.36';

export const wantsLocalPath = (spec: ClusterSpec) => spec.storage?.clusterCsi?.name === 'local-path';

/** Objects of Rancher's local path provisioner: volumes are folders of the node. Its storage class is the default one. */
export function localPathManifest(spec: ClusterSpec): string {
  const version = spec.storage?.clusterCsi?.version || LOCAL_PATH_VERSION;
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
      containers: [{ name: 'helper-pod', image: HELPER_IMAGE, imagePullPolicy: 'IfNotPresent' }],
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
    image: `docker.io/rancher/${NAME}:${version}`,
    imagePullPolicy: 'IfNotPresent',
    command: [NAME, 'start', '--config', '/etc/config/config.json'],
    volumeMounts: [{ name: 'config', mountPath: '/etc/config/' }],
    env: [
      { name: 'POD_NAMESPACE', valueFrom: { fieldRef: { fieldPath: 'metadata.namespace' } } },
      { name: 'CONFIG_MOUNT_PATH', value: '/etc/config/' },
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
 * The storage class local-path with its provisioner. The folder of the volumes is put back with the files. `turnedBack`: whether undo takes the objects away; not for an install,
 * which takes the whole cluster away. `name`: of the step.
 */
export function localPathStep(name: string, spec: ClusterSpec, turnedBack: boolean): Step {
  const input = localPathManifest(spec);
  return step({
    name,
    run: async (): Promise<Action[]> => [
      { kind: 'claim', paths: [FOLDER] },
      waitApi(ADMIN_CONF),
      { kind: 'command', command: kubectl(ADMIN_CONF, ['apply', '--server-side', '--force-conflicts', '-f', '-'], { input }) },
    ],
    verify: async ({ machine, signal }) => {
      await getFromKube(machine, ADMIN_CONF, '/apis/storage.k8s.io/v1/storageclasses/local-path', signal);
    },
    undo: async ({ machine }) => {
      if (!turnedBack || !(await machine.stat(ADMIN_CONF))) return [];
      const remove = kubectl(ADMIN_CONF, ['delete', '--ignore-not-found', '--timeout=60s', '-f', '-'], { input, timeoutMs: 90_000 });
      return [waitApi(ADMIN_CONF), { kind: 'command', command: remove }];
    },
    afterCrash: 'repeat',
  });
}
