import type { ClusterSpec } from '../../../../kube/lifecycle.ts';
import { type Step, type StepContext, StepError } from '../../operations/step.ts';
import { registryPassword } from '../../spec/secrets.ts';
import { step } from '../common/run.ts';
import { configFile, environmentFile, registriesFile } from './configuration.ts';
import { CONFIG, ENVIRONMENT, REGISTRIES, REGISTRY_CA } from './paths.ts';

/** A file as it shall be; undefined: not there. */
type Wanted = { path: string; content: string | undefined; mode: number; secret?: boolean };

/** The files that k3s reads when it starts, for a spec. */
async function wantedFiles({ machine, facts }: StepContext, spec: ClusterSpec): Promise<Wanted[]> {
  const registries = registriesFile(spec, await registryPassword(spec));
  const certFiles = registries === undefined ? [] : (spec.clusterRuntime?.clusterCri?.certFiles ?? []);
  const authorities: string[] = [];
  for (const file of certFiles) {
    const pem = await machine.read(file);
    if (pem === undefined) throw new StepError(`${file}, a CA of the registry, does not exist`);
    authorities.push(pem.endsWith('\n') ? pem : `${pem}\n`);
  }
  return [
    { path: CONFIG, content: configFile(spec, facts.hostname), mode: 0o600 },
    { path: REGISTRIES, content: registries, mode: 0o600, secret: true },
    { path: REGISTRY_CA, content: authorities.length > 0 ? authorities.join('') : undefined, mode: 0o644 },
    { path: ENVIRONMENT, content: environmentFile(spec), mode: 0o644 },
  ];
}

/** Those that are not so. */
async function differing(context: StepContext, spec: ClusterSpec): Promise<Wanted[]> {
  const found: Wanted[] = [];
  for (const wanted of await wantedFiles(context, spec))
    if ((await context.machine.read(wanted.path)) !== wanted.content) found.push(wanted);
  return found;
}

/** The files that k3s reads when it starts are as the spec says. */
export function configurationStep(spec: ClusterSpec): Step {
  return step({
    name: 'k3s-configuration',
    check: async (context) => (await differing(context, spec)).length === 0,
    run: async (context) =>
      (await differing(context, spec)).map(({ path, content, mode, secret }) =>
        content === undefined ? { kind: 'remove', path } : { kind: 'write', path, content, mode, ...(secret && { secret }) },
      ),
    verify: async (context) => {
      const wrong = await differing(context, spec);
      if (wrong.length > 0) throw new Error(`not as written: ${wrong.map(({ path }) => path).join(', ')}`);
    },
    afterCrash: 'repeat',
  });
}
