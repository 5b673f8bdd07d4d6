import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { createLabFolder } from './folders.ts';
import { undoAtExit } from './leftovers.ts';
import { type Boot, boot } from './machine/boot.ts';
import { type Cable, plugCable } from './machine/cable.ts';
import { createCgroups, type MachineCgroups, sweepCgroups } from './machine/cgroups.ts';
import { type ExecOptions, type ExecResult, execInMachine, machineCommand } from './machine/exec.ts';
import { keepHostSysctls } from './machine/host-sysctls.ts';
import { type Init, inits } from './machine/init.ts';
import { copyRoot, noRoot, templateFolder, writeRootFile } from './machine/root.ts';
import { type MachineState, readState } from './machine/state.ts';
import { takePair } from './network.ts';
import { createTeardown } from './teardown.ts';
import { waitFor } from './wait.ts';

export type MachineOptions = {
  /** Host name, default `machine`. Needs not be unique. */
  name?: string;
  /** Folders of this computer that the machine sees, read-only unless `writable`. */
  binds?: ReadonlyArray<{ source: string; target: string; writable?: boolean }>;
  /** Files that are there before the first boot, by path: content, or content and mode (default 0644). */
  files?: Readonly<Record<string, string | { content: string | Uint8Array; mode: number }>>;
  /** Debian packages that are purged before the first boot, such as `containerd`. */
  without?: readonly string[];
  /** Bytes of memory that all its processes use together, default 6 GiB. */
  memory?: number;
  /** Gives it an IPv6 address beside the other; nothing but the machine itself is reached by IPv6. */
  dualStack?: boolean;
  /** Its first process: systemd, or, with `none`, a shell script that keeps the agent running. */
  init?: keyof typeof inits;
};

/** A Debian machine with a first process of its own, in namespaces of this computer's kernel. */
export type Machine = {
  name: string;
  init: Init;
  /** Its own address on the cable to this computer. It has no other way out. */
  address: string;
  /** This computer's end of the cable, and its default route: what listens here on all addresses, or on any address of ours, is reached. */
  host: string;
  /** Its root directory as this computer sees it; mounts that were made inside are not seen there. */
  root: string;
  /** Console of all its boots. */
  log: string;
  /** How often it was started. */
  boots(): number;
  running(): boolean;
  /** As root; waits while the machine is being started, rejects when it is off. Any exit code resolves. */
  exec(argv: readonly string[], options?: ExecOptions): Promise<ExecResult>;
  /** As `exec`, but rejects unless the exit code is 0, with the end of stderr. Resolves with stdout. */
  run(argv: readonly string[], options?: ExecOptions): Promise<string>;
  /** The command for this computer that runs `argv` inside, for processes that are started otherwise. */
  command(argv: readonly string[], env?: Record<string, string>): [string, string[]];
  writeFile(path: string, content: string | Uint8Array, mode?: number): Promise<void>;
  readFile(path: string): Promise<Buffer>;
  /** Copies a file of this computer into the running machine. */
  copyIn(source: string, target: string, mode?: number): Promise<void>;
  /** New at each boot, as /proc/sys/kernel/random/boot_id is. */
  bootId(): Promise<string>;
  /** Restarts it as its administrator would, and waits until it is up again. A machine that reboots by itself is started again, too. */
  reboot(): Promise<void>;
  /** Waits until its first process has started everything. */
  settled(): Promise<void>;
  /** Power cut: ends every process at once. Files stay as the kernel has them. */
  kill(): Promise<void>;
  /** Starts it again after `kill` or a shutdown. */
  start(): Promise<void>;
  snapshotState(): Promise<MachineState>;
  /** Removes the machine with everything that belongs to it. Idempotent. */
  stop(): Promise<void>;
};

const GIB = 2 ** 30;
const idPattern = /^fairlead-machine-(\d+)-\d+$/;
let serial = 0;

/** Why no machine can run here (no root, no systemd-nspawn, ...); undefined when it can. The first call ever takes two minutes. */
export function noMachines(): string | undefined {
  return noRoot();
}

/** The folder with Debian's packages of containerd and runc (*.deb), as the machines have them installed. */
export function machinePackages(): string {
  return join(templateFolder(), 'packages');
}

/** What machines of processes that were killed have left. Their processes and mounts ended with them. */
function sweep(): void {
  const dead = (id: string) => {
    const pid = idPattern.exec(id)?.[1];
    return pid !== undefined && !existsSync(`/proc/${pid}`);
  };
  const entries = (folder: string) => (existsSync(folder) ? readdirSync(folder) : []).filter(dead);
  sweepCgroups(dead);
  for (const id of entries('/run/netns')) execFileSync('ip', ['netns', 'del', id], { stdio: 'ignore' });
  for (const id of entries('/run/systemd/nspawn/propagate'))
    rmSync(join('/run/systemd/nspawn/propagate', id), { recursive: true, force: true });
}

/** Copies a machine, starts it and waits until it is up. */
export async function startMachine(options: MachineOptions = {}): Promise<Machine> {
  const { name = 'machine', binds = [], files = {}, without = [], memory = 6 * GIB, dualStack = false } = options;
  const init = inits[options.init ?? 'systemd'];
  templateFolder();
  sweep();
  const id = `fairlead-machine-${process.pid}-${++serial}`;
  const teardown = createTeardown();
  const restoreSysctls = keepHostSysctls();
  teardown.defer(restoreSysctls);
  const folder = createLabFolder();
  teardown.defer(folder.remove);
  const ends = takePair();
  teardown.defer(ends.give);
  const root = join(folder.path, 'root');
  const log = join(folder.path, 'console.log');

  let cable: Cable | undefined;
  let groups: MachineCgroups | undefined;
  const unplug = () => {
    groups?.remove();
    cable?.unplug();
  };
  const forget = undoAtExit(() => {
    unplug();
    ends.give();
    restoreSysctls();
  });
  teardown.defer(forget);
  teardown.defer(unplug);

  let current: Boot | undefined;
  let boots = 0;
  let stopped = false;
  let started: Promise<Boot> | undefined;
  let ended: Promise<void> = Promise.resolve();

  async function powerOn(): Promise<Boot> {
    unplug();
    cable = plugCable(id, dualStack ? { ...ends, inside6: '2001:db8::2' } : ends);
    groups = createCgroups(id, memory);
    const now = await boot({ id, hostname: name, root, network: cable.path, procs: groups.procs, binds, log, init });
    current = now;
    boots++;
    ended = now.ended.then((how) => {
      current = undefined;
      unplug();
      started = how === 'reboot' && !stopped ? powerOn() : undefined;
      // Whoever uses the machine next is told.
      started?.catch(() => undefined);
    });
    return now;
  }

  async function running(): Promise<{ leader: number; procs: readonly string[] }> {
    const now = await started;
    if (now === undefined || groups === undefined) throw new Error(`${name} is off`);
    return { leader: now.leader, procs: groups.procs };
  }

  const execBytes = async (argv: readonly string[], execOptions?: ExecOptions) => {
    const { leader, procs } = await running();
    return execInMachine(leader, procs, argv, execOptions);
  };
  const mustSucceed = async (argv: readonly string[], execOptions?: ExecOptions) => {
    const result = await execBytes(argv, execOptions);
    if (result.code !== 0) throw new Error(`${argv.join(' ')} in ${name}: exit code ${result.code}: ${result.stderr.trim().slice(-2000)}`);
    return result;
  };
  const put = (path: string, input: string | Uint8Array | { file: string }, mode: number) =>
    mustSucceed(
      [
        '/bin/sh',
        '-c',
        'mkdir -p "$1" && rm -f "$2" && umask 077 && cat >"$2" && chmod "$3" "$2"',
        'sh',
        dirname(path),
        path,
        mode.toString(8),
      ],
      {
        input,
        timeout: 120_000,
      },
    );
  const settled = async () => {
    await waitFor(async () => init.isSettled(await execBytes(init.settled, { timeout: 110_000 })), {
      what: `${init.process} of ${name} to have started everything`,
      timeout: 120_000,
      interval: 100,
    });
  };
  const start = async () => {
    if (stopped) throw new Error(`${name} was removed`);
    if (started !== undefined) throw new Error(`${name} runs already`);
    started = powerOn();
    await started;
    await settled();
  };
  const kill = async () => {
    await (await started)?.cutPower();
    await ended;
  };
  teardown.defer(async () => {
    stopped = true;
    await started?.catch(() => undefined);
    await current?.cutPower();
    await ended;
  });

  const targets = binds.map(({ target }) => target);
  const machine: Machine = {
    name,
    init,
    address: ends.inside,
    host: ends.host,
    root,
    log,
    boots: () => boots,
    running: () => current !== undefined,
    async exec(argv, execOptions) {
      const { code, stdout, stderr } = await execBytes(argv, execOptions);
      return { code, stdout, stderr };
    },
    run: async (argv, execOptions) => (await mustSucceed(argv, execOptions)).stdout,
    command(argv, env) {
      if (current === undefined || groups === undefined) throw new Error(`${name} is off`);
      return machineCommand(current.leader, groups.procs, argv, env);
    },
    async writeFile(path, content, mode = 0o644) {
      await put(path, content, mode);
    },
    readFile: async (path) => (await mustSucceed(['cat', '--', path])).bytes,
    async copyIn(source, target, mode = 0o644) {
      await put(target, { file: source }, mode);
    },
    bootId: async () => (await mustSucceed(['cat', '/proc/sys/kernel/random/boot_id'])).stdout.trim(),
    async reboot() {
      const before = boots;
      await execBytes(init.reboot);
      await waitFor(() => boots > before && current !== undefined, { what: `${name} to reboot`, timeout: 180_000 });
      await settled();
    },
    settled,
    kill,
    start,
    snapshotState: () => {
      const sums = readFileSync(join(templateFolder(), 'sums'), 'utf8');
      return readState(execBytes, init, targets, sums);
    },
    stop: () => teardown.run(),
  };

  try {
    copyRoot(root, name, ends);
    if (without.length > 0) execFileSync('chroot', [root, 'dpkg', '--purge', ...without], { stdio: ['ignore', 'ignore', 'pipe'] });
    for (const [path, file] of Object.entries({ ...init.files, ...files })) {
      if (typeof file === 'string') writeRootFile(root, path, file);
      else writeRootFile(root, path, file.content, file.mode);
    }
    for (const target of targets) mkdirSync(join(root, target), { recursive: true });
    await start();
    return machine;
  } catch (error) {
    await machine.stop();
    throw new Error(`starting the machine ${name} (${basename(folder.path)}): ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}
