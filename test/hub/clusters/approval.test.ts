import { describe, expect, test } from 'vitest';
import { ADMISSION_POLICY, TRUTH_RULE, TRUTH_VARIABLES } from '../../../src/hub/clusters/admission.ts';
import { approvalByGroup } from '../../../src/hub/clusters/approval.ts';
import { REQUESTED_BY_GROUPS } from '../../../src/hub/clusters/names.ts';
import { BOOTSTRAP_GROUP } from '../../../src/hub/clusters/settings.ts';
import type { ClusterRegistrationRequest } from '../../../src/kube/clusternet.ts';
import { cleanUp } from '../../support/clean-up.ts';
import { deployed, ID, parentApi } from './harness.ts';

const { after, signal } = cleanUp();
const POLICIES = '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies';
const BINDINGS = '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings';

const request = (groups?: string, creationTimestamp = '2026-06-01T00:00:00Z'): ClusterRegistrationRequest => ({
  metadata: {
    name: `clusternet-${ID}`,
    resourceVersion: '1',
    creationTimestamp,
    ...(groups !== undefined && { annotations: { [REQUESTED_BY_GROUPS]: groups } }),
  },
  spec: { clusterId: ID },
});

type Change = (policy: Record<string, unknown>, binding: Record<string, unknown>) => void;

async function judged(who: ClusterRegistrationRequest, options: { groups?: string[]; change?: Change; remove?: string } = {}) {
  const api = await parentApi(after);
  const policy = structuredClone(api.get(`${POLICIES}/${ADMISSION_POLICY}`)) ?? { metadata: {}, spec: {} };
  const binding = structuredClone(api.get(`${BINDINGS}/${ADMISSION_POLICY}`)) ?? { metadata: {}, spec: {} };
  options.change?.(policy.spec ?? {}, binding.spec ?? {});
  api.put(POLICIES, policy);
  api.put(BINDINGS, binding);
  if (options.remove) api.remove(`${options.remove}/${ADMISSION_POLICY}`);
  return await approvalByGroup(who, options.groups ?? [BOOTSTRAP_GROUP], api.client, signal());
}

test('a member of the group is approved', async () =>
  expect(await judged(request(`system:authenticated,${BOOTSTRAP_GROUP}`))).toEqual({ approved: true }));

describe('waits for a person', () => {
  test.each([
    ['when nobody is approved by group', request(BOOTSTRAP_GROUP), { groups: [] }, 'by hand here'],
    ['when it does not say who made it', request(), {}, 'does not say'],
    ['when who made it is in no such group', request('system:authenticated'), {}, 'by hand'],
    ['when a group only begins like it', request(`${BOOTSTRAP_GROUP}s`), {}, 'by hand'],
    ['without the policy', request(BOOTSTRAP_GROUP), { remove: POLICIES }, 'not installed'],
    ['without the binding', request(BOOTSTRAP_GROUP), { remove: BINDINGS }, 'not installed'],
    ['when the policy is younger', request(BOOTSTRAP_GROUP, '2025-12-31T23:59:59Z'), {}, 'older than'],
    ['when the policy is as old', request(BOOTSTRAP_GROUP, '2026-01-01T00:00:00Z'), {}, 'older than'],
  ])('%s', async (_when, who, options, why) => {
    expect(await judged(who, options)).toEqual({ approved: false, why: expect.stringContaining(why) });
  });

  const changes: [string, Change][] = [
    ['the policy lets errors pass', (policy) => Object.assign(policy, { failurePolicy: 'Ignore' })],
    ['the rule is gone', (policy) => Object.assign(policy, { validations: [{ expression: 'true' }] })],
    ['what the rule is made of was changed', (policy) => Object.assign(policy, { variables: [{ name: 'claims', expression: "''" }] })],
    ['the policy has exceptions', (policy) => Object.assign(policy, { matchConditions: [{ name: 'x', expression: 'false' }] })],
    [
      'it does not match creation',
      (policy) => Object.assign(policy, { matchConstraints: { resourceRules: [{ operations: ['UPDATE'] }] } }),
    ],
    ['the binding only warns', (_policy, binding) => Object.assign(binding, { validationActions: ['Warn'] })],
    [
      'the binding is narrowed',
      (_policy, binding) => Object.assign(binding, { matchResources: { objectSelector: { matchLabels: { a: 'b' } } } }),
    ],
  ];
  test.each(changes)('when %s', async (_when, change) => {
    expect(await judged(request(BOOTSTRAP_GROUP), { change })).toEqual({ approved: false, why: expect.stringContaining('was changed') });
  });
});

test('the rule that the hub relies on is the one in deploy/crds', () => {
  const policy = deployed('admission-policy.yaml')[0] as unknown as {
    spec: { variables: { name: string; expression: string }[]; validations: { expression: string }[] };
  };
  const squeezed = (text: string) => text.replace(/\s+/g, ' ').trim();
  expect(policy.spec.validations.map(({ expression }) => squeezed(expression))).toContain(TRUTH_RULE);
  for (const [name, expression] of Object.entries(TRUTH_VARIABLES))
    expect(squeezed(policy.spec.variables.find((one) => one.name === name)?.expression ?? '')).toBe(expression);
});
