import { localDisk } from '../../../../src/agent/lifecycle/operations/disk.ts';
import type { OperationManager, OperationRequest } from '../../../../src/agent/lifecycle/operations/request.ts';
import type { Step } from '../../../../src/agent/lifecycle/operations/step.ts';
import type { LifecycleOperation, OperationType } from '../../../../src/kube/lifecycle.ts';
import { request } from './example.ts';
import { type Faults, faults, type Sandbox, sandbox } from './sandbox.ts';

export type Steps = (request: OperationRequest) => Step[];

/** Runs `work` for 0..count-1, a few at a time; rejects with the first failure, which says its number. */
export async function forEach(count: number, work: (n: number) => Promise<void>): Promise<void> {
  let next = 0;
  let failed = false;
  const lane = async () => {
    while (next < count && !failed) {
      const n = next++;
      try {
        await work(n);
      } catch (error) {
        failed = true;
        throw new Error(`case ${n}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
      }
    }
  };
  await Promise.all([lane(), lane(), lane(), lane(), lane(), lane()]);
}

export async function inSandbox<T>(work: (box: Sandbox) => Promise<T>): Promise<T> {
  const box = await sandbox();
  try {
    return await work(box);
  } finally {
    await box.remove();
  }
}

export function managerWith(box: Sandbox, steps: Steps, fault: Faults): OperationManager {
  return box.manager(steps, { disk: fault.disk(localDisk), machine: fault.machine(box.machine) });
}

/** Begins an operation and waits for its end, or for the crash that `fault` plans; a request that is refused counts as ended. */
export async function begun(box: Sandbox, steps: Steps, fault: Faults, type: OperationType = 'Install'): Promise<'ended' | 'crashed'> {
  const manager = managerWith(box, steps, fault);
  const work = async () => {
    await manager.start();
    await manager.begin(request(type));
    await manager.settled();
    await manager.stop();
    return 'ended' as const;
  };
  return Promise.race([work(), fault.crashed]);
}

/** A new agent finds what the old one left and takes it to its end; undefined when there is nothing. */
export async function recovered(box: Sandbox, steps: Steps, fault: Faults = faults()): Promise<LifecycleOperation | 'crashed' | undefined> {
  const manager = managerWith(box, steps, fault);
  const work = async () => {
    await manager.start();
    await manager.settled();
    await manager.stop();
    return manager.last();
  };
  return Promise.race([work(), fault.crashed]);
}

/** What a run without faults passes, and the machine before and after it. */
export async function measured(steps: Steps, type: OperationType = 'Install') {
  return inSandbox(async (box) => {
    const before = await box.tree();
    const fault = faults();
    await begun(box, steps, fault, type);
    return { before, after: await box.tree(), places: fault.passed };
  });
}

/** Undefined when they are the same, else the first differences. */
export function difference(found: ReadonlyMap<string, string>, wanted: ReadonlyMap<string, string>): string | undefined {
  const paths = [...new Set([...found.keys(), ...wanted.keys()])].filter((path) => found.get(path) !== wanted.get(path));
  if (paths.length === 0) return undefined;
  return paths
    .slice(0, 5)
    .map((path) => `${path}: ${found.get(path)} instead of ${wanted.get(path)}`)
    .join('; ');
}

/** Throws unless the operation ended on one side, and the machine is what it is on that side. */
export async function expectWhole(
  box: Sandbox,
  operation: LifecycleOperation | 'crashed' | undefined,
  trees: { before: Map<string, string>; after: Map<string, string> },
  place: string,
) {
  const phase = operation === undefined ? 'never begun' : operation === 'crashed' ? 'crashed' : operation.phase;
  const wanted = phase === 'Succeeded' ? trees.after : trees.before;
  const differs = difference(await box.tree(), wanted);
  const settled = phase === 'Succeeded' || phase === 'Failed' || phase === 'never begun';
  const remains = typeof operation === 'object' && operation.message?.includes('NOT undone') ? operation.message : undefined;
  if (!settled || differs !== undefined || remains !== undefined) {
    throw new Error(`crash at "${place}": ${phase}; ${differs ?? ''} ${remains ?? ''}`);
  }
}
