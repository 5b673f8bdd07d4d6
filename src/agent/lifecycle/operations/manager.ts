import type { LifecycleOperation } from '../../../kube/lifecycle.ts';
import { conflict, serviceUnavailable } from '../../../kube/status.ts';
import type { ArtifactSource } from '../artifacts/source.ts';
import { endLeftovers } from '../machine/leftovers.ts';
import type { Facts, Machine } from '../machine/machine.ts';
import { mergeBaseline, neededBy, onlyStanding, readBaseline } from './baseline.ts';
import { type Disk, localDisk } from './disk.ts';
import { type Driver, drive, untilDone } from './drive.ts';
import { deleteSteps, type EngineStep, refuseDoubles, restorations, stepsByName } from './engine-steps.ts';
import type { Outcome } from './execution.ts';
import { failureOf } from './failure.ts';
import { damagedOperation, type Journal, JournalDamaged } from './journal.ts';
import { operationLog } from './log.ts';
import { planOperation } from './plan.ts';
import { type InstalledStep, type OperationState, shown } from './records.ts';
import { redactor } from './redact.ts';
import type { EndListener, OperationManager, OperationRequest } from './request.ts';
import { restoreBaseline } from './restore-baseline.ts';
import type { Step, StepContext } from './step.ts';
import { operationStore } from './store.ts';

export type OperationManagerOptions = {
  /** The agent's state; ours is `lifecycle/operations` and `lifecycle/baseline` below it. The machine must see it at the same path. */
  stateDir: string;
  machine: Machine;
  /** Steps of a request, in their order. For Delete those that come before the steps of Install are taken back; these are asked for as type Install. */
  steps: (request: OperationRequest) => Step[];
  artifacts: ArtifactSource;
  onError: (error: unknown) => void;
  now?: () => Date;
  /** Values that must not appear in logs, errors and journal, besides what is known by its form. */
  secrets?: () => readonly string[];
  disk?: Disk;
  /** Milliseconds between tries to write the journal, or to have the end recorded, after a failure; 5,000. */
  retryMs?: number;
  /** Milliseconds between two questions of an action `wait`; 1,000. */
  pollMs?: number;
};

/** Takes requests one at a time, and what a crash left first of all. */
export function operationManager(given: OperationManagerOptions): OperationManager {
  const { machine, artifacts, onError, disk = localDisk, retryMs = 5_000, pollMs = 1_000, now = () => new Date() } = given;
  const store = operationStore(given.stateDir, disk);
  const log = operationLog(onError);
  const lifetime = new AbortController();
  const { signal } = lifetime;
  const listeners: EndListener[] = [];
  const hidden = new Set<string>();
  const redact = redactor(() => [...(given.secrets?.() ?? []), ...hidden]);
  const at = () => now().toISOString();
  /** Of the operation that runs or ran last. */
  let journal: Journal | undefined;
  /** Why nothing can begin. */
  let busy: string | undefined = 'the agent has not yet looked whether an operation was interrupted';
  let damaged: LifecycleOperation | undefined;
  /** What the operation that runs waits for, in words. */
  let waiting: string | undefined;
  let running: Promise<void> = Promise.resolve();

  function engineSteps(
    request: OperationRequest,
    state: Pick<OperationState, 'installed'>,
    current: () => OperationState | undefined,
  ): EngineStep[] {
    const own = given.steps(request);
    refuseDoubles(own);
    if (request.type !== 'Delete') return own.map((step) => ({ ...step, saves: true }));
    const install = state.installed.length > 0 ? given.steps({ ...request, type: 'Install', before: undefined }) : [];
    const restore = ({ signal: stopping }: StepContext) =>
      restoreBaseline({
        disk,
        machine,
        folder: store.baseline,
        state: current(),
        say: (line) => say('restore-files', line),
        signal: stopping,
      });
    return deleteSteps({ before: own, install, installed: state.installed, restore });
  }

  function contextOf(request: OperationRequest, facts: Facts, folder: string): (step: EngineStep) => StepContext {
    const list = (prefix: string) => artifacts.list(prefix);
    return (step) => ({
      machine,
      facts,
      spec: request.spec,
      before: request.before,
      folder: step.folder ?? folder,
      artifacts: list,
      signal,
    });
  }

  /** Rejects with StatusError 503 when it cannot be known what the machine was before. */
  async function installedFor({ type }: OperationRequest): Promise<InstalledStep[]> {
    const { installed } = await readBaseline(store.baseline).catch((error: unknown) => {
      throw serviceUnavailable(failureOf(error, redact).message);
    });
    return type === 'Delete' ? installed : [];
  }
  const filesOf = store.filesOf;
  const say = (step: string, line: string) => log.say(`${at()} ${step} ${redact(line)}`);

  const wait = (error: unknown) => {
    waiting = `waiting: ${failureOf(error, redact).message}`;
    onError(error);
  };
  const driver: Driver = {
    machine,
    artifacts,
    store,
    redact,
    say,
    hidden,
    at,
    pollMs,
    signal,
    contextOf,
    keep,
    onError,
    async patiently(work) {
      const found = await untilDone(work, { signal, retryMs, onError: wait, makeRoom: store.makeRoom });
      waiting = undefined;
      return found;
    },
  };
  /** To the end, and through the listeners. Does not reject. */
  async function run(one: Journal, how: { resumed: boolean; facts: () => Promise<Facts>; steps: readonly EngineStep[] }): Promise<void> {
    try {
      if (!(await drive(driver, one, how))) return;
      for (const listener of listeners) await driver.patiently(() => listener(one.state.request, shown(one.state)));
      await driver.patiently(() => one.append({ kind: 'recorded', at: at() }));
      hidden.clear();
      await readBaseline(store.baseline)
        .then((baseline) => store.prune(neededBy(baseline)))
        .catch(onError);
      busy = undefined;
    } catch (error) {
      if (!signal.aborted) onError(error);
    }
  }

  /** What the operation leaves on the machine goes to the baseline. */
  async function keep(state: OperationState, { phase }: Outcome): Promise<void> {
    if (state.request.type === 'Delete') return;
    const left =
      phase === 'Succeeded' ? state.steps.filter((step) => step.state === 'Done') : state.remains.map(({ step }) => ({ name: step }));
    if (phase === 'Failed' && left.length === 0) return;
    const folder = filesOf(state.id);
    const steps = left.map(({ name }) => ({ name, folder }));
    await mergeBaseline(disk, store.baseline, phase === 'Succeeded' ? state : await onlyStanding(machine, state, steps), steps);
  }

  /** The newest operation of which anything is on disk. */
  async function newest(): Promise<Journal | undefined> {
    for (const id of (await store.ids()).reverse()) {
      const found = await store.open(id);
      if (found) return found;
      await disk.remove(store.folderOf(id));
    }
    return undefined;
  }

  return {
    async start() {
      try {
        journal = await newest();
      } catch (error) {
        const { message } = failureOf(error, redact);
        const path = error instanceof JournalDamaged ? error.path : undefined;
        busy = path === undefined ? message : `${message}; move it away when the machine is as it should be, and restart the agent`;
        damaged = damagedOperation(busy, error);
        onError(error);
        return;
      }
      if (!journal || journal.state.recorded) {
        busy = undefined;
        return;
      }
      const { state } = journal;
      busy = `operation ${state.id} is being taken up again`;
      if (state.acting) await endLeftovers(state.id);
      await log.open(store.logOf(state.id));
      let known: EngineStep[] = [];
      try {
        known = engineSteps(state.request, state, () => state);
      } catch (error) {
        onError(error); // Each step says then that it is not known.
      }
      artifacts.refresh();
      const names = state.steps.map(({ name }) => name);
      running = run(journal, { resumed: true, facts: () => machine.facts(), steps: stepsByName(names, known) });
    },

    async begin(request) {
      if (signal.aborted) throw serviceUnavailable('the agent is stopping');
      if (damaged) throw serviceUnavailable(busy ?? '');
      if (busy !== undefined) throw conflict({}, busy);
      busy = `operation ${request.type} is beginning; one runs at a time`;
      try {
        const [id, installed, facts] = [await store.newId(request.type), await installedFor(request), await machine.facts()];
        let state: OperationState | undefined;
        const steps = engineSteps(request, { installed }, () => state);
        const names = steps.map(({ name }) => name);
        journal = await store.create({ kind: 'begin', at: at(), id, request, steps: names, installed }).catch((error: unknown) => {
          onError(error);
          throw serviceUnavailable(`the operation cannot be written down: ${failureOf(error, redact).message}`);
        });
        state = journal.state;
        busy = `operation ${id} runs since ${state.startedAt}; one runs at a time`;
        await log.open(store.logOf(id));
        artifacts.refresh();
        const answer = shown(state);
        running = run(journal, { resumed: false, facts: async () => facts, steps });
        return answer;
      } catch (error) {
        busy = undefined;
        throw error;
      }
    },

    async plan(request) {
      artifacts.refresh();
      const [installed, baseline] = [await installedFor(request), await readBaseline(store.baseline)];
      const steps = engineSteps(request, { installed }, () => undefined);
      const context = contextOf(request, await machine.facts(), filesOf('plan'));
      const performs = ({ name }: EngineStep) =>
        restorations(baseline).map(({ path, text, removes }) => ({
          step: name,
          kind: removes ? ('remove' as const) : ('write' as const),
          path,
          text,
        }));
      return planOperation({ request, steps, context, performs, redact });
    },

    last: () =>
      damaged ?? (journal && { ...shown(journal.state), ...(waiting !== undefined && !journal.state.ended && { message: waiting }) }),
    onEnd: (listener) => void listeners.push(listener),
    async *log({ follow, signal: until }) {
      yield* log.read((await store.ids()).map(store.logOf), follow, AbortSignal.any([until, signal]));
    },
    written: async () => (await readBaseline(store.baseline)).written,
    busy: () => busy !== undefined,
    settled: () => running,
    async stop() {
      lifetime.abort();
      await running;
      await log.flushed();
    },
  };
}
