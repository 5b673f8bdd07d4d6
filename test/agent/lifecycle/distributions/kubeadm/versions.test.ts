import { describe, expect, test } from 'vitest';
import {
  canonicalVersion,
  compareVersions,
  parseVersion,
  validateUpgrade,
} from '../../../../../src/agent/lifecycle/distributions/common/versions.ts';

describe('versions', () => {
  test.each([
    ['v1.36.3', 'v1.36.3'],
    ['1.36.3', 'v1.36.3'],
    ['v1.36.3+k3s1', 'v1.36.3+k3s1'],
    ['latest', 'latest'],
  ])('%s is %s', (text, canonical) => {
    expect(canonicalVersion(text)).toBe(canonical);
  });

  test.each(['', 'v1', 'v1.36', 'v1.36.3-rc.1', 'v1.36.3 ', '../v1.36.3', 'v1.36.3+', 'v1.36.99999'])('%j is no version', (text) => {
    expect(parseVersion(text)).toBeUndefined();
  });

  test('builds of one version have an order', () => {
    const [first, second] = [parseVersion('v1.36.3+k3s1'), parseVersion('v1.36.3+k3s10')];
    if (!first || !second) throw new Error('not read');
    expect(compareVersions(first, second)).toBeLessThan(0);
  });

  test.each([
    ['v1.35.4', 'v1.35.4', undefined],
    ['v1.35.4', 'v1.35.5', undefined],
    ['v1.35.4', 'v1.36.0', undefined],
    ['v1.35.4', '1.36.3', undefined],
    ['v1.9.1', 'v1.10.0', undefined],
    ['v1.36.3+k3s1', 'v1.36.3+k3s2', undefined],
    ['v1.35.4', 'v1.37.0', 'upgrade to v1.36 first'],
    ['v1.35.4', 'v1.35.3', 'is older'],
    ['v1.35.4', 'v1.34.9', 'is older'],
    ['v1.36.3+k3s2', 'v1.36.3+k3s1', 'is older'],
    ['v1.35.4', 'v2.0.0', 'another major'],
    ['v1.35.4', 'newest', 'is not a version'],
    ['', 'v1.36.3', 'is not known'],
  ])('from %s to %s: %s', (from, to, problem) => {
    const causes = validateUpgrade(from, to);
    if (problem === undefined) expect(causes).toEqual([]);
    else expect(causes).toEqual([{ reason: 'FieldValueInvalid', field: 'spec.version', message: expect.stringContaining(problem) }]);
  });
});
