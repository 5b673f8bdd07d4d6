import type { KubeClient } from '../../kube/client.ts';
import { getOrNothing } from './ensure.ts';

/** deploy/crds/admission-policy.yaml. */
export const ADMISSION_POLICY = 'fairlead-cluster-registration';

/** The rule that keeps the annotation true, and what it is made of; blanks do not count. A test compares it with deploy/crds. */
export const TRUTH_RULE =
  "variables.claims == variables.claimsBefore || variables.claims == '' || (has(request.userInfo.groups) && variables.claims.split(',').all(claim, claim in request.userInfo.groups))";
export const TRUTH_VARIABLES: Record<string, string> = {
  claims:
    "has(object.metadata.annotations) && 'infraops.michael.io/requested-by-groups' in object.metadata.annotations ? object.metadata.annotations['infraops.michael.io/requested-by-groups'] : ''",
  claimsBefore:
    "oldObject != null && has(oldObject.metadata.annotations) && 'infraops.michael.io/requested-by-groups' in oldObject.metadata.annotations ? oldObject.metadata.annotations['infraops.michael.io/requested-by-groups'] : ''",
};

type Rule = {
  apiGroups?: string[];
  apiVersions?: string[];
  operations?: string[];
  resources?: string[];
  resourceNames?: string[];
  scope?: string;
};
type Policy = {
  metadata: { creationTimestamp?: string; deletionTimestamp?: string };
  spec: {
    failurePolicy?: string;
    matchConditions?: unknown[];
    matchConstraints?: { resourceRules?: Rule[]; excludeResourceRules?: unknown[]; namespaceSelector?: object; objectSelector?: object };
    variables?: { name: string; expression: string }[];
    validations?: { expression: string }[];
  };
};
type Binding = {
  metadata: { creationTimestamp?: string; deletionTimestamp?: string };
  spec: { policyName?: string; validationActions?: string[]; matchResources?: unknown; paramRef?: unknown };
};

const PATH = '/apis/admissionregistration.k8s.io/v1';
const squeezed = (text: string) => text.replace(/\s+/g, ' ').trim();
const empty = (selector: object | undefined) => selector === undefined || Object.keys(selector).length === 0;
const has = (values: string[] | undefined, value: string) => values?.some((one) => one === value || one === '*') ?? false;

/**
 * Why what a request says of its maker's groups cannot be relied on; undefined when it can: the admission policy is in place, unchanged in what counts,
 * and was there before the request (made at `created`, RFC 3339). Throws KubeError, KubeUnreachableError.
 */
export async function admissionGap(client: KubeClient, created: string | undefined, signal: AbortSignal): Promise<string | undefined> {
  const [policy, binding] = await Promise.all([
    getOrNothing<Policy>(client, `${PATH}/validatingadmissionpolicies/${ADMISSION_POLICY}`, signal),
    getOrNothing<Binding>(client, `${PATH}/validatingadmissionpolicybindings/${ADMISSION_POLICY}`, signal),
  ]);
  if (!policy || !binding) return `the admission policy ${ADMISSION_POLICY} is not installed (kubectl apply -k deploy/crds)`;
  if (!holds(policy) || !binds(binding))
    return `the admission policy ${ADMISSION_POLICY} or its binding was changed (kubectl apply -k deploy/crds)`;
  const since = Math.max(...[policy, binding].map(({ metadata }) => Date.parse(metadata.creationTimestamp ?? '')));
  // Times of objects have whole seconds; NaN compares as false, and then it is a gap.
  if (!(Date.parse(created ?? '') > since)) return `the request is older than the admission policy ${ADMISSION_POLICY}`;
  return undefined;
}

function holds({ metadata, spec }: Policy): boolean {
  const { matchConstraints } = spec;
  const rule = matchConstraints?.resourceRules?.some(
    ({ apiGroups, apiVersions, operations, resources, resourceNames }) =>
      has(apiGroups, 'clusters.clusternet.io') &&
      has(apiVersions, 'v1beta1') &&
      ['CREATE', 'UPDATE'].every((operation) => has(operations, operation)) &&
      has(resources, 'clusterregistrationrequests') &&
      !resourceNames?.length,
  );
  const variables = new Map(spec.variables?.map(({ name, expression }) => [name, squeezed(expression)]));
  return (
    rule === true &&
    metadata.deletionTimestamp === undefined &&
    (spec.failurePolicy ?? 'Fail') === 'Fail' &&
    !spec.matchConditions?.length &&
    !matchConstraints?.excludeResourceRules?.length &&
    empty(matchConstraints?.namespaceSelector) &&
    empty(matchConstraints?.objectSelector) &&
    Object.entries(TRUTH_VARIABLES).every(([name, expression]) => variables.get(name) === expression) &&
    (spec.validations?.some(({ expression }) => squeezed(expression) === TRUTH_RULE) ?? false)
  );
}

function binds({ metadata, spec }: Binding): boolean {
  return (
    metadata.deletionTimestamp === undefined &&
    spec.policyName === ADMISSION_POLICY &&
    (spec.validationActions?.includes('Deny') ?? false) &&
    spec.paramRef === undefined &&
    (spec.matchResources === undefined || narrowsNothing(spec.matchResources))
  );
}

/** kube-apiserver fills in `matchResources` with empty selectors. */
function narrowsNothing(matchResources: unknown): boolean {
  if (typeof matchResources !== 'object' || matchResources === null) return false;
  return Object.entries(matchResources).every(
    ([name, value]) => name === 'matchPolicy' || (typeof value === 'object' && value !== null && Object.keys(value).length === 0),
  );
}
