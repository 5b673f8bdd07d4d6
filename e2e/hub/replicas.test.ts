import { describe } from 'vitest';
import { hubEnv } from './env.ts';
import { outageTests } from './outage.ts';
import { rotationTests, SHORT_LIFE } from './rotation.ts';

// Lease times are those that the hub has by itself: the hand-over is part of what is tested.
const env = hubEnv({
  // It says when it has read the front proxy's certificate again.
  lab: { kubeApiServerFlags: ['--vmodule=dynamic_serving_content=2,dynamic_cafile_content=2'] },
  hub: { replicas: 2, flags: ['--restart-cooldown=0', '--shutdown-delay=3s', `--cert-validity=${SHORT_LIFE}s`] },
});

describe('certificates', () => rotationTests(env));
describe('outages', () => outageTests(env));
