import { basename } from 'node:path';
import type { Facts, MachineView } from '../../machine/machine.ts';
import { type Action, type Step, type StepContext, StepError } from '../../operations/step.ts';
import { registryPassword } from '../../spec/secrets.ts';
import { readLedger } from '../common/ledger.ts';
import { leftoverCleaning, waitNoContainers } from '../common/leftovers.ts';
import { ask, run, step, tryRun, wholeOnly } from '../common/run.ts';
import { type ContainerdWish, cgroupDriver, containerdConfig, hasOldRegistries, registryHost, registryHosts } from './containerd-config.ts';
import { pauseImage } from './images.ts';
import { CONTAINERD_BASE, CONTAINERD_CONFIG, CTR, REGISTRY_FOLDER } from './paths.ts';

const UNIT = 'containerd';
const STORE = '/var/lib/containerd';
const PACKAGES = ['containerd', 'runc'];
const NETWORKS = '/etc/cni';

const installed = async (machine: MachineView) =>
  (await machine.which('containerd')) !== undefined && (await machine.which('runc')) !== undefined;

/** containerd and runc are installed: from the artifacts' packages, or else by the system's package manager with the sources that it has. */
export function containerdPackagesStep(): Step {
  return step({
    name: 'containerd-packages',
    check: ({ machine }) => installed(machine),
    run: async (context) => {
      const { facts, folder, spec } = context;
      const suffix = facts.packageManager === 'dnf' ? '.rpm' : '.deb';
      const packages = (await context.artifacts('packages/')).filter((path) => path.endsWith(suffix));
      const claim: Action = { kind: 'claim', paths: ['/etc/containerd', STORE, '/opt/containerd', NETWORKS] };
      if (packages.length > 0) {
        const local = packages.map((artifact) => `${folder}/packages/${basename(artifact)}`);
        const fetches = packages.map((artifact, index): Action => ({ kind: 'fetch', path: local[index] ?? '', artifact, mode: 0o600 }));
        const argv = facts.packageManager === 'dnf' ? ['rpm', '-i', ...local] : ['dpkg', '--install', ...local];
        return [claim, ...fetches, run(argv, { timeoutMs: 300_000, env: { DEBIAN_FRONTEND: 'noninteractive' } })];
      }
      // Whoever names a source of artifacts, in the spec or by the agent's flag, wants nothing from elsewhere.
      if (spec.artifacts?.source || (await context.artifacts('')).length > 0) {
        throw new StepError(
          `containerd is not installed, and the source of artifacts has no packages/*${suffix}`,
          'put containerd and runc into the artifacts, or install them',
        );
      }
      if (facts.packageManager === 'none')
        throw new StepError(
          'containerd is not installed, and there is no package manager that could bring it',
          'install containerd and runc',
        );
      const argv =
        facts.packageManager === 'apt'
          ? ['apt-get', 'install', '-y', '--no-install-recommends', ...PACKAGES]
          : ['dnf', 'install', '-y', ...PACKAGES];
      return [claim, run(argv, { timeoutMs: 900_000, env: { DEBIAN_FRONTEND: 'noninteractive' } })];
    },
    verify: async ({ machine }) => {
      if (!(await installed(machine))) throw new StepError('containerd and runc are still not there');
    },
    undo: async ({ machine, facts }) => {
      const brought = await ownersOf(machine, facts, (await readLedger(machine))?.packages ?? []);
      if (brought.length === 0) return [];
      const service: Action[] = (await machine.services.exists(UNIT)) ? [{ kind: 'service', unit: UNIT, change: 'stop' }] : [];
      const argv = facts.packageManager === 'dnf' ? ['rpm', '-e', ...brought] : ['dpkg', '--purge', ...brought];
      return [...service, tryRun(argv, 300_000), { kind: 'service', unit: UNIT, change: 'daemon-reload' }];
    },
  });
}

/** Packages that the programs belong to now: artifacts may have them under other names, as containerd.io. */
async function ownersOf(machine: MachineView, facts: Facts, programs: readonly string[]): Promise<string[]> {
  const owners = new Set<string>();
  for (const name of programs) {
    const path = await machine.which(name);
    if (!path) continue;
    const query = facts.packageManager === 'dnf' ? ['rpm', '-qf', '--queryformat', '%{NAME}', path] : ['dpkg', '-S', path];
    const owner = (await ask(machine, query))?.split(':')[0]?.trim();
    if (owner) owners.add(owner);
  }
  return [...owners];
}

/** Programs that the step above would bring, for the ledger. */
export async function missingPackages(machine: MachineView): Promise<string[]> {
  const found = await Promise.all(PACKAGES.map(async (name) => [name, (await machine.which(name)) !== undefined] as const));
  return found.filter(([, there]) => !there).map(([name]) => name);
}

/** `current`: containerd's configuration, or one that this has made before: the same comes of it again. */
async function filesFrom(current: string, context: StepContext): Promise<Action[]> {
  const { facts, spec } = context;
  const hosts = registryHosts(spec);
  if (hosts.length > 0 && hasOldRegistries(current)) {
    throw new StepError(
      'containerd is configured with registry mirrors in the older form, which cannot stand beside /etc/containerd/certs.d: move them there first',
    );
  }
  const auth = spec.clusterRuntime?.clusterCri?.registryAuth;
  const host = registryHost(spec);
  const former = context.before && registryHost(context.before);
  const formerHost = former === host ? undefined : former;
  const password = host && auth?.isAuthRequired ? await registryPassword(spec) : undefined;
  const wish: ContainerdWish = {
    systemdCgroup: cgroupDriver(facts) === 'systemd',
    pauseImage: await pauseImage(context),
    restrictOomScore: !facts.mayRaiseLimits,
    registry: host ? { host, auth: undefined } : undefined,
    formerHost,
  };
  const base = containerdConfig(current, wish);
  const login = password === undefined ? undefined : { username: auth?.username ?? '', password };
  const content = host ? containerdConfig(base, { ...wish, registry: { host, auth: login } }) : base;
  // Others' credentials may stand in it as well.
  const secret = /^\s*(password|auth|identitytoken)\s*=\s*"[^"]/m.test(content);
  return [
    { kind: 'write', path: CONTAINERD_CONFIG, content, mode: secret ? 0o600 : 0o644, secret },
    ...(secret ? [{ kind: 'write', path: CONTAINERD_BASE, content: base, mode: 0o600, secret } as const] : []),
    ...hosts.map((file): Action => ({ kind: 'write', path: file.path, content: file.content, mode: 0o644 })),
    ...(formerHost ? [{ kind: 'remove', path: `${REGISTRY_FOLDER}/${formerHost}` } as const] : []),
  ];
}

/** The effective configuration: containerd's own print of it, which holds its defaults and every imported file. */
async function currentConfig(machine: MachineView): Promise<string> {
  const dumped = await ask(machine, ['containerd', 'config', 'dump']);
  return dumped?.includes('[plugins') ? dumped : ((await ask(machine, ['containerd', 'config', 'default'])) ?? '');
}

const wantedFiles = async (context: StepContext) => filesFrom(await currentConfig(context.machine), context);

/** As they were written last: containerd's own print would hold whatever somebody has changed since. */
async function writtenFiles(context: StepContext): Promise<Action[]> {
  const base = await context.machine.read(CONTAINERD_BASE);
  return base === undefined ? [] : filesFrom(base, context);
}

async function filesAreSo(context: StepContext): Promise<boolean> {
  for (const action of await wantedFiles(context)) {
    if (action.kind === 'write' && (await context.machine.read(action.path)) !== action.content) return false;
    if (action.kind === 'remove' && (await context.machine.stat(action.path))) return false;
  }
  return true;
}

const answers = (machine: MachineView) =>
  machine.inspect({ argv: [...CTR, 'version'], timeoutMs: 10_000 }).then(
    () => true,
    () => false,
  );

/** Containerd answers to its socket. */
export const waitContainerd = (): Action => ({
  kind: 'wait',
  text: 'containerd answers',
  timeoutMs: 60_000,
  until: async (machine) => {
    if (await answers(machine)) return true;
    throw new Error(await machine.services.lastLog(UNIT, 5));
  },
});

/** Name of the step in an install. */
export const INSTALLED = 'container-runtime';

/** Containerd with the settings that kubelet, kubeadm and the registries need, running now and after a restart. Under another name it serves a patch of the registries. */
export function containerRuntimeStep(name: string = INSTALLED): Step {
  // Its files may be written and containerd not restarted yet.
  const runtime = step({
    name,
    check: async (context) =>
      (await context.machine.services.active(UNIT)) &&
      (await context.machine.services.enabled(UNIT)) &&
      (await answers(context.machine)) &&
      (await filesAreSo(context)),
    run: async (context) => [
      ...(await claimMade(context.machine)),
      // With a cluster before it an install is asked by a repair only.
      ...(name === INSTALLED && context.before ? await writtenFiles(context) : await wantedFiles(context)),
      { kind: 'service', unit: UNIT, change: 'enable' },
      { kind: 'service', unit: UNIT, change: 'restart' },
      waitContainerd(),
    ],
    verify: async ({ machine }) => {
      if (!(await answers(machine))) throw new StepError(`containerd does not answer: ${await machine.services.lastLog(UNIT, 5)}`);
    },
    undo: async ({ machine }) => (name === INSTALLED ? runtimeAsBefore(machine) : []),
    afterCrash: 'repeat',
  });
  return wholeOnly(runtime);
}

/** One that has never run makes it when it starts, before the step that claims it. Its store, which others may use by now, stays. */
const claimMade = async (machine: MachineView): Promise<Action[]> =>
  (await machine.stat(NETWORKS)) ? [] : [{ kind: 'claim', paths: [NETWORKS] }];

/** containerd with the configuration that it had before the cluster, running as it did. By hand, because files are put back only when nothing can be started any more. */
async function runtimeAsBefore(machine: MachineView): Promise<Action[]> {
  const before = (await readLedger(machine))?.containerd;
  if (!before || !(await machine.services.exists(UNIT))) return [];
  const { config, enabled, active } = before;
  const file: Action = config
    ? { kind: 'write', path: CONTAINERD_CONFIG, content: config.content, mode: config.mode, secret: true }
    : { kind: 'remove', path: CONTAINERD_CONFIG };
  return [
    file,
    ...(enabled ? [] : [{ kind: 'service', unit: UNIT, change: 'disable' } as const]),
    { kind: 'service', unit: UNIT, change: active ? 'restart' : 'stop' },
    ...(active ? [waitContainerd()] : []),
  ];
}

/** Does nothing on the way there; taken back, containerd starts with the files that were put back below it. */
export function runtimeAgainStep(): Step {
  return step({
    name: 'restart-old-runtime',
    run: async () => [],
    undo: async () => [{ kind: 'service', unit: UNIT, change: 'restart' }, waitContainerd()],
    afterCrash: 'repeat',
  });
}

/** Takes nothing up; taken back, it ends what a reset left of containers, mounts, interfaces and rules. Stands before everything that runs in containers. */
export function leftoversStep(): Step {
  return step({
    name: 'leftovers',
    run: async () => [],
    undo: async ({ machine }) => {
      const cleaning = await leftoverCleaning(machine, CTR);
      const running = await machine.services.active(UNIT);
      return [...cleaning, ...(running ? [waitNoContainers(CTR)] : [])];
    },
    afterCrash: 'repeat',
  });
}
