import { type Step, StepError } from '../../operations/step.ts';
import { run, step } from '../common/run.ts';
import { fingerprints } from './certificates.ts';

const FILE = 'certificates-before.json';
/** Those that must be new afterwards, whatever else k3s counts as certificates in its version. */
const SURE = ['client-admin', 'serving-kube-apiserver'];

/** Writes down which certificates there are, for the comparison afterwards. */
export function certificatesBeforeStep(): Step {
  return step({
    name: 'certificates-before',
    run: async ({ machine, folder }) => {
      const before = Object.fromEntries(await fingerprints(machine));
      if (Object.keys(before).length === 0) throw new StepError('k3s has no certificates yet');
      return [{ kind: 'write', path: `${folder}/${FILE}`, content: JSON.stringify(before), mode: 0o600 }];
    },
    afterCrash: 'repeat',
  });
}

/** Has k3s, which is stopped, make all its certificates anew at the next start. CAs stay. */
export function rotateStep(): Step {
  return step({ name: 'k3s-certificate-rotate', run: async () => [run(['k3s', 'certificate', 'rotate'], { timeoutMs: 120_000 })] });
}

/** k3s has made new ones. */
export function certificatesAfterStep(): Step {
  return step({
    name: 'certificates-after',
    run: async () => [],
    verify: async ({ machine, folder }) => {
      const before = new Map(Object.entries(JSON.parse((await machine.read(`${folder}/${FILE}`)) ?? '{}') as Record<string, string>));
      const now = await fingerprints(machine);
      const missing = [...before.keys()].filter((name) => SURE.includes(name) && !now.has(name));
      if (missing.length > 0) throw new StepError(`k3s made no certificate ${missing.join(', ')}`);
      const same = SURE.filter((name) => before.has(name) && before.get(name) === now.get(name));
      if (same.length > 0) throw new StepError(`k3s did not renew ${same.join(', ')}`);
    },
    afterCrash: 'repeat',
  });
}
