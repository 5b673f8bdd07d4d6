import { spawn } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { environment } from './commands.ts';
import { type Command, CommandError, type CommandResult } from './machine.ts';
import { identify, isAlive, type ProcessId, send } from './processes.ts';
import { fullUnitName, type Services } from './services.ts';
import type { Unit } from './unit-file.ts';
import type { UnitFolder } from './unit-folder.ts';

const LONGEST_DELAY_MS = 60_000;
const LARGEST_LOG = 16 * 1024 * 1024;

export type SupervisorOptions = {
  units: UnitFolder;
  /** Folder of what runs; emptied by a reboot, as /run is. */
  runDir: string;
  logDir: string;
  path: string;
  run(command: Command, signal: AbortSignal): Promise<CommandResult>;
  onError(error: unknown): void;
  /** Milliseconds: a unit that ends sooner has not started; 1,000. Time between SIGTERM and SIGKILL; 90,000. */
  startMs?: number;
  stopMs?: number;
};

type Kept = { process: ProcessId | undefined; wanted: boolean; failures: number; since: number; timer: NodeJS.Timeout | undefined };

/**
 * Keeps units running where there is no systemd. What it heeds of a unit file: unit-file.ts; notification, sockets, dependencies and resource limits it does not. Units are in
 * sessions of their own and outlive the agent, as they would under systemd; the next agent takes them up again by their pid and start time.
 */
export function supervisor(options: SupervisorOptions): Services {
  const { units, startMs = 1_000, stopMs = 90_000 } = options;
  const kept = new Map<string, Kept>();
  let closed = false;
  const recordOf = (name: string) => join(options.runDir, `${name}.json`);
  const logOf = (name: string) => join(options.logDir, `${name}.log`);

  async function find(name: string): Promise<Kept> {
    const known = kept.get(name);
    if (known) return known;
    const text = await readFile(recordOf(name), 'utf8').catch(() => '{}');
    const left = asProcess(text);
    const process = left && (await isAlive(left)) ? left : undefined;
    const one: Kept = { process, wanted: left !== undefined, failures: 0, since: Date.now(), timer: undefined };
    // Two may have asked at once.
    const first = kept.get(name) ?? one;
    kept.set(name, first);
    if (first === one && process) watch(name, one, process);
    return first;
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

  async function launch(name: string, one: Kept, unit: Unit, signal: AbortSignal): Promise<void> {
    await mkdir(options.logDir, { recursive: true });
    await mkdir(options.runDir, { recursive: true, mode: 0o700 });
    for (const { argv, mayFail } of unit.before) {
      await options.run({ argv, env: unit.environment, timeoutMs: stopMs }, signal).catch((error) => {
        if (!mayFail) throw error;
      });
    }
    const size = (await stat(logOf(name)).catch(() => undefined))?.size ?? 0;
    if (size > LARGEST_LOG) await rename(logOf(name), `${logOf(name)}.1`);
    const log = await open(logOf(name), 'a', 0o600);
    try {
      const [program = '', ...args] = unit.start;
      const env = environment(options.path, unit.environment);
      const child = spawn(program, args, { detached: true, cwd: unit.workingDirectory, env, stdio: ['ignore', log.fd, log.fd] });
      const { pid } = child;
      await new Promise<void>((resolve, reject) => {
        child.once('spawn', resolve);
        child.once('error', (error) => reject(new CommandError(unit.start, undefined, '', `cannot be started: ${error.message}`)));
      });
      child.unref();
      if (pid === undefined) throw new Error(`${name} has no pid`);
      const process = (await identify(pid)) ?? { pid, started: '' };
      Object.assign(one, { process, wanted: true, since: Date.now() });
      const gone = (code: number | null) => void ended(name, one, process, code ?? undefined).catch(options.onError);
      if (child.exitCode !== null || child.signalCode !== null) gone(child.exitCode);
      else child.once('exit', gone);
      await writeFile(recordOf(name), JSON.stringify(process), { mode: 0o600 });
    } finally {
      await log.close();
    }
  }

  async function ended(name: string, one: Kept, process: ProcessId, code: number | undefined): Promise<void> {
    if (one.process !== process) return;
    one.process = undefined;
    if (closed || !one.wanted) return;
    const unit = await units.read(name).catch(() => undefined);
    const again = unit && (unit.restart === 'always' || (unit.restart === 'on-failure' && code !== 0));
    if (!unit || !again || !one.wanted || closed) return;
    one.failures = Date.now() - one.since > LONGEST_DELAY_MS ? 0 : one.failures + 1;
    const delay = Math.min(LONGEST_DELAY_MS, Math.max(unit.restartDelayMs, 100) * 2 ** Math.min(one.failures, 10));
    clearTimeout(one.timer);
    one.timer = setTimeout(() => {
      if (closed || !one.wanted || one.process) return;
      void launch(name, one, unit, new AbortController().signal).catch((error) => {
        options.onError(error);
        // What cannot be started is tried again as what ended.
        one.process = process;
        void ended(name, one, process, 1).catch(options.onError);
      });
    }, delay);
    one.timer.unref();
  }

  async function start(name: string, signal: AbortSignal): Promise<void> {
    const one = await find(name);
    if (one.process && (await isAlive(one.process))) return;
    clearTimeout(one.timer);
    one.failures = 0;
    await launch(name, one, await units.read(name), signal);
    const process = one.process;
    const until = Date.now() + startMs;
    while (process && one.process === process && Date.now() < until && !signal.aborted) await wait(20);
    if (process && one.process === process) return;
    await stop(name, signal);
    throw new CommandError(['start', name], undefined, await lastLog(name, 20), 'ended right after its start');
  }

  async function stop(name: string, signal: AbortSignal): Promise<void> {
    const one = await find(name);
    one.wanted = false;
    clearTimeout(one.timer);
    const process = one.process;
    const unit = await units.read(name).catch(() => undefined);
    if (process && (await isAlive(process))) {
      const group = unit?.killGroup ?? true;
      send(group ? -process.pid : process.pid, 'SIGTERM');
      const until = Date.now() + stopMs;
      while ((await isAlive(process)) && Date.now() < until && !signal.aborted) await wait(20);
      if (signal.aborted && (await isAlive(process))) throw new Error(`${name} has not ended yet: the agent is stopping`);
      send(group ? -process.pid : process.pid, 'SIGKILL');
      while (await isAlive(process)) await wait(20);
    }
    one.process = undefined;
    await rm(recordOf(name), { force: true });
  }

  async function lastLog(unit: string, lines: number): Promise<string> {
    const name = fullUnitName(unit);
    const size = (await stat(logOf(name)).catch(() => undefined))?.size;
    if (size === undefined) return '';
    const pieces: Buffer[] = [];
    for await (const piece of createReadStream(logOf(name), { start: Math.max(0, size - 256 * 1024) })) pieces.push(piece as Buffer);
    return Buffer.concat(pieces).toString('utf8').trimEnd().split('\n').slice(-lines).join('\n');
  }

  return {
    exists: (unit) => units.exists(fullUnitName(unit)),
    async active(unit) {
      const { process } = await find(fullUnitName(unit));
      return process !== undefined && (await isAlive(process));
    },
    enabled: (unit) => units.enabled(fullUnitName(unit)),
    lastLog,
    async change(unit, change, signal) {
      const name = fullUnitName(unit);
      if (change === 'daemon-reload') return; // Units are read at each start.
      if (change === 'enable') return units.enable(name);
      if (change === 'disable') return units.disable(name);
      if (change !== 'start') await stop(name, signal);
      if (change !== 'stop') await start(name, signal);
    },
    async resume() {
      const ran = (await readdir(options.runDir).catch(() => [])).flatMap((file) => (file.endsWith('.json') ? [file.slice(0, -5)] : []));
      // A machine of another kind has units of its own enabled, which are not ours to start: only those that have run under us before a reboot, or run now.
      for (const name of new Set([...ran, ...(await ours())])) {
        await start(name, new AbortController().signal).catch(options.onError);
      }
    },
    close() {
      closed = true;
      for (const one of kept.values()) clearTimeout(one.timer);
    },
  };

  async function ours(): Promise<string[]> {
    const logs = (await readdir(dirname(logOf('x'))).catch(() => [])).flatMap((file) =>
      file.endsWith('.service.log') ? [file.slice(0, -4)] : [],
    );
    const enabled = await units.allEnabled();
    return enabled.filter((name) => logs.includes(name));
  }
}

function asProcess(text: string): ProcessId | undefined {
  try {
    const found: unknown = JSON.parse(text);
    if (typeof found !== 'object' || found === null || !('pid' in found) || !('started' in found)) return undefined;
    return typeof found.pid === 'number' && found.pid > 1 && typeof found.started === 'string'
      ? { pid: found.pid, started: found.started }
      : undefined;
  } catch {
    return undefined; // Cut off by a power failure: nothing of it runs any more.
  }
}
