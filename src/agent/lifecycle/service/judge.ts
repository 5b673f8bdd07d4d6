import type { ClusterSpec } from '../../../kube/lifecycle.ts';
import { invalid, type StatusCause } from '../../../kube/status.ts';
import { canonicalVersion, validateUpgrade } from '../distributions/common/versions.ts';
import type { Distribution } from '../distributions/distribution.ts';
import type { Facts } from '../machine/machine.ts';
import { forbiddenByPatch, forbiddenByPut, forbiddenMetadata, forbiddenWithoutUpgrade } from '../spec/changes.ts';
import { mergePatch } from '../spec/merge-patch.ts';
import { CLUSTER, readSpec } from '../spec/read-body.ts';
import { commonProblems, distinct } from '../spec/rules.ts';
import { passwordOf, withPassword } from '../spec/secrets.ts';
import type { Distributions } from './steps.ts';

const PASSWORD_FIELD = 'spec.clusterRuntime.clusterCri.registryAuth.password';

function refuseIf(causes: readonly StatusCause[]): void {
  if (causes.length > 0) throw invalid(CLUSTER, distinct(causes));
}

/** Fills in what was left open, and throws a 422 with field causes for what is wrong. */
function complete(given: ClusterSpec, distribution: Distribution, facts: Facts): ClusterSpec {
  const name = facts.hostname.toLowerCase().split('.', 1)[0] ?? '';
  const spec = distribution.defaults({ ...given, clusterName: given.clusterName || name }, facts);
  refuseIf([...commonProblems(spec, facts), ...distribution.validate(spec, facts)]);
  return spec;
}

/** The spec of a new cluster, complete. Throws a 400, or a 422 with field causes. */
export function judgeCreate(given: Record<string, unknown>, distributions: Distributions, facts: Facts): ClusterSpec {
  const spec = readSpec(given);
  return complete(spec, distributions(spec.clusterType), facts);
}

/** Throws a 422 with field causes when a change names other metadata than the cluster was created with. */
export function judgeMetadata(asked: Record<string, string>, before: Record<string, string>): void {
  refuseIf(forbiddenMetadata(before, asked));
}

/** What is kept of the spec while a change of it is read: everything but the password, whose reference nobody may name. */
const withoutPassword = (spec: ClusterSpec) => withPassword(spec, undefined);

/** The spec after a PUT: fields that are left out stay as they are. Undefined: there is nothing to do. Throws a 422 with field causes. */
export function judgeUpgrade(
  given: Record<string, unknown>,
  before: ClusterSpec,
  distributions: Distributions,
  facts: Facts,
): ClusterSpec | undefined {
  const asked = readSpec({ ...given, clusterType: given['clusterType'] || before.clusterType });
  if (asked.version === undefined || asked.version === '') {
    throw invalid(CLUSTER, [{ reason: 'FieldValueRequired', message: 'Required value: the version to upgrade to', field: 'spec.version' }]);
  }
  const merged = { ...(mergePatch(withoutPassword(before), asked) as ClusterSpec), version: canonicalVersion(asked.version) };
  const causes = [...validateUpgrade(before.version ?? '', merged.version), ...forbiddenByPut(before, merged)];
  if (passwordOf(asked) !== undefined)
    causes.push({
      reason: 'FieldValueForbidden',
      message: 'PUT changes the version only: use PATCH for this field',
      field: PASSWORD_FIELD,
    });
  refuseIf(causes);
  const after = complete(withKeptPassword(merged, asked, before), distributions(before.clusterType), facts);
  if (after.version !== before.version) return after;
  refuseIf(forbiddenWithoutUpgrade(before, merged));
  return undefined;
}

/** The spec after a PATCH, a JSON merge patch of the spec; undefined: nothing changes. */
export function judgePatch(
  given: Record<string, unknown>,
  before: ClusterSpec,
  distributions: Distributions,
  facts: Facts,
): ClusterSpec | undefined {
  // Read by itself first: what is not known is refused before it is merged.
  const asked = readSpec({ ...given, clusterType: given['clusterType'] || before.clusterType });
  const merged = readSpec(mergePatch(withoutPassword(before), { ...given, clusterType: asked.clusterType }) as Record<string, unknown>);
  refuseIf(forbiddenByPatch(withoutPassword(before), withoutPassword(merged)).filter(({ field }) => field === 'spec.clusterType'));
  const after = complete(
    removesPassword(given) ? merged : withKeptPassword(merged, asked, before),
    distributions(before.clusterType),
    facts,
  );
  refuseIf(forbiddenByPatch(before, after));
  const same = JSON.stringify(sorted(after)) === JSON.stringify(sorted(before));
  return same ? undefined : after;
}

/** The password of before, when the change names none. */
function withKeptPassword(merged: ClusterSpec, asked: ClusterSpec, before: ClusterSpec): ClusterSpec {
  return passwordOf(asked) === undefined ? withPassword(merged, passwordOf(before)) : merged;
}

function removesPassword(given: unknown): boolean {
  let value: unknown = given;
  for (const name of ['clusterRuntime', 'clusterCri', 'registryAuth', 'password']) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return false;
    value = (value as Record<string, unknown>)[name];
  }
  return value === null || value === '';
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, field]) => field !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, field]) => [name, sorted(field)]),
  );
}
