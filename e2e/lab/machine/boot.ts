import { readFileSync, rmSync } from 'node:fs';
import { type LabProcess, startProcess } from '../process.ts';
import { waitFor } from '../wait.ts';
import type { Init } from './init.ts';

/** One run of a machine, from power on to off. */
export type Boot = {
  /** The machine's first process, as seen from here. */
  leader: number;
  /** `reboot` when the machine asked for one, `off` when it was shut down or killed. */
  ended: Promise<'reboot' | 'off'>;
  running(): boolean;
  /** Ends every process of the machine at once, as a power cut does (what was written and not synced stays, unlike there). */
  cutPower(): Promise<void>;
};

export type BootOptions = {
  /** Of nspawn: unique on this computer. */
  id: string;
  hostname: string;
  root: string;
  network: string;
  procs: readonly string[];
  binds: ReadonlyArray<{ source: string; target: string; writable?: boolean }>;
  log: string;
  init: Init;
};

// systemd-nspawn ends with it when the machine wants to be started again and --keep-unit is given.
const WANTS_REBOOT = 133;

// Joins the control groups, then gives its process up for the command.
const joinAndRun = 'while [ "$1" != -- ]; do echo $$ >"$1" || exit 1; shift; done; shift; exec "$@"';

function onlyChild(pid: number): number | undefined {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ');
  return children.length === 1 && children[0] ? Number(children[0]) : undefined;
}

/** unshare > systemd-nspawn > the machine's first process, which is pid 1 of the innermost of three pid namespaces. */
function findLeader(pid: number, name: string): number | undefined {
  const nspawn = onlyChild(pid);
  const leader = nspawn === undefined ? undefined : onlyChild(nspawn);
  if (leader === undefined) return undefined;
  const status = readFileSync(`/proc/${leader}/status`, 'utf8');
  return /^Name:\s+(.*)$/m.exec(status)?.[1] === name && /^NSpid:\s+\d+\s+\d+\s+1$/m.test(status) ? leader : undefined;
}

/**
 * Starts the first process in the folder `root`. Everything runs in pid and mount namespaces below a process that dies with us, so neither a process nor
 * a mount can be left. Resolves when it has been started, which is before its services are.
 */
export async function boot(options: BootOptions): Promise<Boot> {
  const { id, hostname, root, network, procs, binds, log, init } = options;
  const proc: LabProcess = await startProcess({
    name: `machine ${hostname}`,
    command: '/bin/sh',
    args: [
      ...['-c', joinAndRun, 'sh', ...procs, '--'],
      ...['unshare', '--mount', '--pid', '--mount-proc', '--fork', '--kill-child=KILL', '--'],
      ...[
        'systemd-nspawn',
        ...init.options,
        `--directory=${root}`,
        `--machine=${id}`,
        `--hostname=${hostname}`,
        '--register=no',
        '--keep-unit',
      ],
      ...['--capability=all', '--system-call-filter=@known', `--network-namespace-path=${network}`, '--bind=/dev/kmsg'],
      ...['--resolv-conf=off', '--timezone=off', '--link-journal=no'],
      ...binds.map(({ source, target, writable }) => `--bind${writable ? '' : '-ro'}=${source}:${target}`),
      ...['--', ...init.command],
    ],
    // Otherwise /proc/sys is read-only inside.
    env: { SYSTEMD_NSPAWN_API_VFS_WRITABLE: 'yes' },
    log,
  });
  const ended = proc.exited.then(({ code }): 'reboot' | 'off' => {
    rmSync(`/run/systemd/nspawn/propagate/${id}`, { recursive: true, force: true });
    return code === WANTS_REBOOT ? 'reboot' : 'off';
  });
  const cutPower = () => proc.stop('SIGKILL');
  try {
    const leader = await waitFor(
      () => {
        if (!proc.running()) return -1;
        return findLeader(proc.pid, init.process);
      },
      { what: `${init.process} of ${hostname} to start`, timeout: 60_000, interval: 20 },
    );
    if (leader === -1)
      throw new Error(`${hostname} did not start: ${readFileSync(log, 'utf8').trimEnd().split('\n').slice(-5).join('; ')}`);
    return { leader, ended, running: proc.running, cutPower };
  } catch (error) {
    await cutPower();
    throw error;
  }
}
