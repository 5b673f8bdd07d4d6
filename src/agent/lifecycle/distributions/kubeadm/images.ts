import { basename } from 'node:path';
import type { ClusterSpec } from '../../../../kube/lifecycle.ts';
import type { MachineView } from '../../machine/machine.ts';
import type { Action, Step, StepContext } from '../../operations/step.ts';
import { readLedger } from '../common/ledger.ts';
import { ask, lines, run, step, tryRun } from '../common/run.ts';
import { canonicalVersion, parseVersion } from '../common/versions.ts';
import { registryHost } from './containerd-config.ts';
import { CTR, imagesFolder } from './paths.ts';

const DEFAULT_REPOSITORY = 'registry.k8s.io';

/** Where the images of the control plane come from: the private registry, unless the artifacts have them under their own names. */
export async function imageRepository(context: Pick<StepContext, 'spec' | 'artifacts'>): Promise<string> {
  const host = registryHost(context.spec);
  if (!host) return DEFAULT_REPOSITORY;
  const archives = await context.artifacts(imagesFolder(versionOf(context.spec)));
  return archives.length > 0 ? DEFAULT_REPOSITORY : host;
}

/** `v1.36.3` of a complete spec. */
export const versionOf = (spec: ClusterSpec) => canonicalVersion(spec.version ?? '');

/** What kubeadm of a minor wants; only for a plan that is made before kubeadm is there. Source: cmd/kubeadm/app/constants of each release. */
const PAUSE_BY_MINOR: Readonly<Record<number, string>> = { 31: '3.10', 32: '3.10', 33: '3.10', 34: '3.10.1', 35: '3.10.1' };

/** The pause image that the kubeadm on the machine wants. */
export async function pauseImage(context: StepContext): Promise<string> {
  const repository = await imageRepository(context);
  const pause = (await wantedImages(context.machine, versionOf(context.spec), repository)).find((name) => name.includes('/pause:'));
  return pause ?? `${repository}/pause:${PAUSE_BY_MINOR[parseVersion(versionOf(context.spec))?.minor ?? 0] ?? '3.10.2'}`;
}

/** Names of the images that kubeadm wants for a version; empty without kubeadm. */
export async function wantedImages(machine: MachineView, version: string, repository: string): Promise<string[]> {
  const argv = ['kubeadm', 'config', 'images', 'list', '--kubernetes-version', version, '--image-repository', repository];
  return lines(await ask(machine, argv));
}

/** Names of the images in containerd; empty when it does not answer. */
export const presentImages = async (machine: MachineView): Promise<string[]> => lines(await ask(machine, [...CTR, 'images', 'ls', '-q']));

/**
 * Where an image that is no part of kubeadm's list comes from. It keeps its name where containerd has it, from the artifacts, and where there is no private registry; otherwise that has
 * it by the last part of its name, as it has kubeadm's.
 */
export async function addOnImage({ machine, spec }: Pick<StepContext, 'machine' | 'spec'>, name: string): Promise<string> {
  const host = registryHost(spec);
  return !host || (await presentImages(machine)).includes(name) ? name : `${host}/${basename(name)}`;
}

/** Which of the wanted images are not there. */
export async function missingImages(context: StepContext): Promise<string[]> {
  const wanted = await wantedImages(context.machine, versionOf(context.spec), await imageRepository(context));
  const there = new Set(await presentImages(context.machine));
  return wanted.filter((name) => !there.has(name));
}

const archivesOf = async (context: StepContext) =>
  (await context.artifacts(imagesFolder(versionOf(context.spec)))).filter((path) => path.endsWith('.tar'));

/** Names in a docker-archive that stands on the machine; undefined when it has to be fetched first, or is of another kind. */
async function namesIn({ machine, spec }: StepContext, archive: string): Promise<string[] | undefined> {
  const source = spec.artifacts?.source ?? '';
  if (!source.startsWith('/')) return undefined;
  const text = await ask(machine, ['tar', '-xOf', `${source}/${archive}`, '--occurrence=1', 'manifest.json'], 60_000);
  try {
    const names = (JSON.parse(text ?? '') as { RepoTags?: string[] }[]).flatMap(({ RepoTags }) => RepoTags ?? []);
    return names.length > 0 ? names : undefined;
  } catch {
    return undefined;
  }
}

/** Archives that hold an image which is not in containerd, or may hold one. */
async function wantedArchives(context: StepContext): Promise<string[]> {
  const there = new Set(await presentImages(context.machine));
  const wanted: string[] = [];
  for (const archive of await archivesOf(context)) {
    const names = await namesIn(context, archive);
    if (!names?.every((name) => there.has(name))) wanted.push(archive);
  }
  return wanted;
}

/** Actions that bring the archives of the artifacts into containerd, one after the other, so that only one stands on the disk twice. */
async function importing(context: StepContext): Promise<Action[]> {
  return (await wantedArchives(context)).flatMap((artifact): Action[] => {
    const path = `${context.folder}/images/${basename(artifact)}`;
    return [
      { kind: 'fetch', path, artifact, mode: 0o600 },
      run([...CTR, 'images', 'import', path], { timeoutMs: 300_000 }),
      { kind: 'remove', path },
    ];
  });
}

/** Images from archives; without archives kubeadm pulls them. Undo removes exactly those that were not there before. `name`: of the step. */
export function imagesStep(name: string, before: (context: StepContext) => Promise<string[] | undefined>): Step {
  return step({
    name,
    check: async (context) => {
      const wanted = await wantedImages(context.machine, versionOf(context.spec), await imageRepository(context));
      return wanted.length > 0 && (await missingImages(context)).length === 0 && (await wantedArchives(context)).length === 0;
    },
    run: async (context) => {
      if ((await archivesOf(context)).length > 0) return importing(context);
      const repository = await imageRepository(context);
      const argv = ['--kubernetes-version', versionOf(context.spec), '--image-repository', repository];
      return [run(['kubeadm', 'config', 'images', 'pull', ...argv], { timeoutMs: 1_200_000 })];
    },
    verify: async (context) => {
      const missing = await missingImages(context);
      if (missing.length > 0) throw new Error(`images are missing after the import: ${missing.join(', ')}`);
    },
    undo: async (context) => {
      const kept = await before(context);
      if (!kept) return [];
      const added = (await presentImages(context.machine)).filter((image) => !kept.includes(image));
      return added.length > 0 ? [tryRun([...CTR, 'images', 'rm', '--sync', ...added], 120_000)] : [];
    },
    afterCrash: 'repeat',
  });
}

export const imagesOfLedger = async ({ machine }: StepContext) => (await readLedger(machine))?.images;
