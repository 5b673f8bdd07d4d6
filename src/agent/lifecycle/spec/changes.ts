import type { ClusterSpec } from '../../../kube/lifecycle.ts';
import type { StatusCause } from '../../../kube/status.ts';

/** Fields that stay as they were when the cluster was created. */
const FIXED = [
  'clusterType',
  'clusterName',
  'networking.podSubnet',
  'networking.svcSubnet',
  'networking.cniName',
  'networking.cilium.installKubeProxy',
  'certificates.caValidityPeriod',
] as const;
/** Fields that a PUT may change; everything else is for PATCH. */
const BY_PUT: ReadonlySet<string> = new Set(['version', 'artifacts.source', 'upgrade.componentTimeout']);
const CSI = 'storage.clusterCsi.name';
const MOST_CAUSES = 64;
/** The password is compared by whoever keeps it. */
const PASSWORD = 'clusterRuntime.clusterCri.registryAuth.password';

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);

/** Paths of the fields that differ, lists as a whole: `networking.cniVersion`. The password is left out. */
export function differences(before: ClusterSpec, after: ClusterSpec): string[] {
  const found: string[] = [];
  const compare = (a: unknown, b: unknown, path: string): void => {
    if (isObject(a) || isObject(b)) {
      const [left, right] = [isObject(a) ? a : {}, isObject(b) ? b : {}];
      for (const name of new Set([...Object.keys(left), ...Object.keys(right)]))
        compare(left[name], right[name], path ? `${path}.${name}` : name);
    } else if (JSON.stringify(a) !== JSON.stringify(b) && path !== PASSWORD) found.push(path);
  };
  compare(before, after, '');
  return found;
}

const forbidden = (field: string, message: string): StatusCause => ({ reason: 'FieldValueForbidden', message, field: `spec.${field}` });
const isFixed = (path: string) => FIXED.some((fixed) => path === fixed || path.startsWith(`${fixed}.`));

/** What a PUT may not change. Versions are judged by the distribution's rules. */
export function forbiddenByPut(before: ClusterSpec, after: ClusterSpec): StatusCause[] {
  return differences(before, after)
    .filter((path) => !BY_PUT.has(path))
    .map((path) =>
      forbidden(path, isFixed(path) ? 'cannot be changed after creation' : 'PUT changes the version only: use PATCH for this field'),
    );
}

/** What a PUT to the version that the cluster has would have to change: it begins nothing. */
export function forbiddenWithoutUpgrade(before: ClusterSpec, after: ClusterSpec): StatusCause[] {
  return differences(before, after)
    .filter((path) => path !== 'version')
    .map((path) => forbidden(path, 'the cluster has this version already, so that PUT changes nothing: use PATCH for this field'));
}

/** Metadata stays as it was when the cluster was created; what is left out is not changed. The name is the parent's, and may be another there. */
export function forbiddenMetadata(before: Readonly<Record<string, string>>, after: Readonly<Record<string, string>>): StatusCause[] {
  return Object.entries(after)
    .filter(([name, value]) => name !== 'name' && before[name] !== value)
    .slice(0, MOST_CAUSES)
    .map(([name]) => ({
      reason: 'FieldValueForbidden',
      message: 'cannot be changed after creation',
      field: `metadata.${name.slice(0, 64)}`,
    }));
}

/** What a PATCH may not change. */
export function forbiddenByPatch(before: ClusterSpec, after: ClusterSpec): StatusCause[] {
  return differences(before, after).flatMap((path) => {
    if (path === 'version') return [forbidden(path, 'PATCH does not change the version: use PUT')];
    if (path === CSI && before.storage?.clusterCsi?.name === 'local-path')
      return [forbidden(path, 'local-path cannot be taken away after creation: what its volumes hold would be lost')];
    return isFixed(path) ? [forbidden(path, 'cannot be changed after creation')] : [];
  });
}
