import { spawn } from 'node:child_process';
import { setTimeout as wait } from 'node:timers/promises';
import { environment } from './commands.ts';
import { type Command, CommandError, type CommandResult } from './machine.ts';
import { isAlive, type ProcessId, send } from './processes.ts';
import { fullUnitName, type Services } from './services.ts';
import type { Unit } from './unit-file.ts';
import type { UnitFolder } from './unit-folder.ts';
import { unitLogs } from './unit-log.ts';
import { unitRecords } from './unit-records.ts';

const LONGEST_DELAY_MS = 60_000;
const LARGEST_LOG = 16 * 1024 * 1024;
const TRIM_MS = 60_000;

export type SupervisorOptions = {
  units: UnitFolder;
  /** Folder of what shall run; it outlives a reboot. */
  keepDir: string;
  /** Folder of what runs. */
  runDir: string;
  logDir: string;
  path: string;
  run(command: Command, signal: AbortSignal): Promise<CommandResult>;
  onError(error: unknown): void;
  /** Milliseconds: a unit that ends sooner has not started; 1,000. Time between SIGTERM and SIGKILL; 90,000. */
  startMs?: number;
  stopMs?: number;
  /** Bytes of a log, and milliseconds between two looks at its size; 16 MiB, a minute. */
  largestLog?: number;
  trimMs?: number;
};

type Kept = {
  process: ProcessId | undefined;
  wanted: boolean;
  failures: number;
  since: number;
  timer: NodeJS.Timeout | undefined;
  /** What is being done to it: one thing at a time, or two of it would be started. */
  queue: Promise<unknown>;
};

/**
 * Keeps units running where there is no systemd. What it heeds of a unit file: unit-file.ts; notification, sockets, dependencies and resource limits it does not. Units are in
 * sessions of their own and outlive the agent, as they would under systemd; the next agent takes them up again. What was started and not stopped since is started again after a
 * reboot when it is enabled.
 */
export function supervisor(options: SupervisorOptions): Services {
  const { units, startMs = 1_000, stopMs = 90_000, largestLog = LARGEST_LOG, trimMs = TRIM_MS } = options;
  const records = unitRecords(options.keepDir, options.runDir);
  const logs = unitLogs(options.logDir, largestLog);
  const kept = new Map<string, Promise<Kept>>();
  const never = new AbortController().signal;
  let closed = false;
  const trimming = setInterval(() => {
    for (const name of kept.keys()) logs.trim(name).catch(options.onError);
  }, trimMs);
  trimming.unref();

  function find(name: string): Promise<Kept> {
    const known = kept.get(name);
    if (known !== undefined) return known;
    const found = takeUp(name);
    kept.set(name, found);
    found.catch(() => kept.delete(name));
    return found;
  }

  async function takeUp(name: string): Promise<Kept> {
    const [process, wanted] = [await records.find(name), (await records.wanted()).includes(name)];
    const one: Kept = { process, wanted, failures: 0, since: Date.now(), timer: undefined, queue: Promise.resolve() };
    if (process) watch(name, one, process);
    return one;
  }

  function alone<T>(one: Kept, work: () => Promise<T>): Promise<T> {
    const done = one.queue.then(work);
    one.queue = done.catch(() => undefined);
    return done;
  }

  /** One that is not our child cannot be waited for: it is looked at each second. */
  function watch(name: string, one: Kept, process: ProcessId): void {
    const look = async () => {
      if (closed || one.process !== process) return;
      if (!(await isAlive(process))) return ended(name, one, process, undefined);
      setTimeout(() => void look().catch(options.onError), 1_000).unref();
    };
    void look().catch(options.onError);
  }

  async function launch(name: string, one: Kept, signal: AbortSignal): Promise<void> {
    one.since = Date.now();
    const unit = await units.read(name);
    for (const { argv, mayFail } of unit.before) {
      await options.run({ argv, env: unit.environment, timeoutMs: stopMs }, signal).catch((error) => {
        if (!mayFail) throw error;
      });
    }
    const log = await logs.open(name);
    try {
      const [program = '', ...args] = unit.start;
      const env = environment(options.path, { ...unit.environment, ...records.mark(name) });
      const child = spawn(program, args, { detached: true, cwd: unit.workingDirectory, env, stdio: ['ignore', log.fd, log.fd] });
      const { pid } = child;
      await new Promise<void>((resolve, reject) => {
        child.once('spawn', resolve);
        child.once('error', (error) => reject(new CommandError(unit.start, undefined, '', `cannot be started: ${error.message}`)));
      });
      child.unref();
      if (pid === undefined) throw new Error(`${name} has no pid`);
      const process = await records.started(name, pid);
      one.process = process;
      const gone = (code: number | null) => void ended(name, one, process, code ?? undefined).catch(options.onError);
      if (child.exitCode !== null || child.signalCode !== null) gone(child.exitCode);
      else child.once('exit', gone);
    } finally {
      await log.close();
    }
  }

  /** Whether it still runs after the time in which one that cannot run ends. */
  async function lasts(one: Kept, signal: AbortSignal): Promise<boolean> {
    const process = one.process;
    const until = Date.now() + startMs;
    while (process && one.process === process && Date.now() < until && !signal.aborted) await wait(20);
    return process !== undefined && one.process === process;
  }

  async function ended(name: string, one: Kept, process: ProcessId, code: number | undefined): Promise<void> {
    if (one.process !== process) return;
    one.process = undefined;
    await launchLater(name, one, code);
  }

  async function launchLater(name: string, one: Kept, code: number | undefined): Promise<void> {
    if (closed || !one.wanted) return;
    const unit = await units.read(name).catch(options.onError);
    if (closed || !one.wanted || one.process || !unit || !startsAgain(unit, code)) return;
    if (Date.now() - one.since > LONGEST_DELAY_MS) one.failures = 0;
    clearTimeout(one.timer);
    one.timer = setTimeout(() => void launchAgain(name, one).catch(options.onError), delayOf(unit, one.failures++));
    one.timer.unref();
  }

  /** What cannot be started is tried again as what ended. */
  const launchAgain = (name: string, one: Kept) =>
    alone(one, async () => {
      if (closed || !one.wanted || one.process) return;
      await launch(name, one, never).catch((error) => {
        options.onError(error);
        return launchLater(name, one, undefined);
      });
    });

  const start = (name: string, one: Kept, signal: AbortSignal) =>
    alone(one, async () => {
      if (one.process && (await isAlive(one.process))) return;
      clearTimeout(one.timer);
      one.failures = 0;
      await units.read(name);
      await records.want(name);
      one.wanted = true;
      try {
        await launch(name, one, signal);
        if (await lasts(one, signal)) return;
      } catch (error) {
        await stopNow(name, one, signal);
        throw error;
      }
      await stopNow(name, one, signal);
      throw new CommandError(['start', name], undefined, await logs.last(name, 20), 'ended right after its start');
    });

  const stop = (name: string, one: Kept, signal: AbortSignal) => {
    one.wanted = false;
    return alone(one, () => stopNow(name, one, signal));
  };

  async function stopNow(name: string, one: Kept, signal: AbortSignal): Promise<void> {
    one.wanted = false;
    clearTimeout(one.timer);
    await records.unwant(name);
    const process = one.process;
    const unit = await units.read(name).catch(() => undefined);
    if (process && (await isAlive(process))) {
      const target = (unit?.killGroup ?? true) ? -process.pid : process.pid;
      send(target, 'SIGTERM');
      const until = Date.now() + stopMs;
      while ((await isAlive(process)) && Date.now() < until && !signal.aborted) await wait(20);
      if (signal.aborted && (await isAlive(process))) throw new Error(`${name} has not ended yet: the agent is stopping`);
      send(target, 'SIGKILL');
      while (await isAlive(process)) await wait(20);
    }
    one.process = undefined;
    await records.ended(name);
  }

  return {
    exists: (unit) => units.exists(fullUnitName(unit)),
    async active(unit) {
      const { process } = await find(fullUnitName(unit));
      return process !== undefined && (await isAlive(process));
    },
    enabled: (unit) => units.enabled(fullUnitName(unit)),
    lastLog: (unit, lines) => logs.last(fullUnitName(unit), lines),
    async change(unit, change, signal) {
      const name = fullUnitName(unit);
      if (change === 'daemon-reload') return; // Units are read at each start.
      if (change === 'enable') return units.enable(name);
      if (change === 'disable') return units.disable(name);
      const one = await find(name);
      if (change !== 'start') await stop(name, one, signal);
      if (change !== 'stop') await start(name, one, signal);
    },
    async resume() {
      for (const name of await records.wanted()) {
        const one = await find(name);
        if (one.process || !(await units.enabled(name))) continue;
        // What needs another unit may end a few times, until that one answers.
        await launchAgain(name, one);
        await lasts(one, never);
      }
    },
    close() {
      closed = true;
      clearInterval(trimming);
      for (const found of kept.values()) found.then((one) => clearTimeout(one.timer), options.onError);
    },
  };
}

/** `code` undefined: ended by a signal, not started at all, or nobody knows. */
const startsAgain = ({ restart }: Unit, code: number | undefined) => restart === 'always' || (restart === 'on-failure' && code !== 0);

const delayOf = ({ restartDelayMs }: Unit, failures: number) =>
  Math.min(LONGEST_DELAY_MS, Math.max(restartDelayMs, 100) * 2 ** Math.min(failures, 10));
