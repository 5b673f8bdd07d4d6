import { describe } from 'vitest';
import { accessTests } from './access.ts';
import { actingTests } from './acting.ts';
import { discoveryTests } from './discovery.ts';
import { hubEnv } from './env.ts';
import { readingTests } from './reading.ts';
import { watchingTests } from './watching.ts';

const env = hubEnv({
  lab: { kubeApiServerFlags: ['--etcd-compaction-interval=2s'] },
  hub: { flags: ['--restart-cooldown=0', '--shutdown-delay=0s'] },
});

describe('discovery', () => discoveryTests(env));
describe('reading', () => readingTests(env));
describe('watching', () => watchingTests(env));
describe('acting', () => actingTests(env));
describe('access', () => accessTests(env));
