import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { ExecResult } from './exec.ts';

/** How a machine is started, asked and restarted; it depends on its first process. */
export type Init = {
  /** Name of the first process. */
  process: string;
  /** Arguments of systemd-nspawn: options, and after them what it starts. */
  options: readonly string[];
  command: readonly string[];
  /** Files of the machine that it needs, by path. */
  files: Readonly<Record<string, { content: string; mode: number }>>;
  /** Asked inside until `isSettled` says that everything has been started. */
  settled: readonly string[];
  isSettled(said: ExecResult): boolean;
  /** Prints the pid of the agent that the first process keeps running. */
  agentPid: readonly string[];
  reboot: readonly string[];
  /** Scripts that read sections of the machine's state (state.ts). */
  state: { unitFiles: string; units: string; images: string };
};

const unitFiles = (systemctl: string) =>
  `${systemctl} list-unit-files --no-legend --plain --no-pager | awk '$2 != "transient" && $2 != "generated" { print $1 "\\t" $2 }'`;

const systemd: Init = {
  process: 'systemd',
  options: ['--boot'],
  command: [],
  files: {},
  settled: ['systemctl', 'is-system-running', '--wait'],
  isSettled: ({ stdout }) => ['running', 'degraded'].includes(stdout.trim()),
  agentPid: ['systemctl', 'show', '-p', 'MainPID', '--value', 'fairlead-agent'],
  reboot: ['systemctl', 'reboot'],
  state: {
    unitFiles: unitFiles('systemctl'),
    units: `systemctl list-units --all --no-legend --plain --no-pager --type=service,socket,timer,path,mount,swap | awk '$3 != "inactive" && $1 !~ /^(run-|systemd-tmpfiles-clean|user|session)/ { print $1 "\\t" $2 " " $3 " " $4 }'`,
    images: 'if systemctl -q is-active containerd; then ctr -n k8s.io images list -q; fi',
  },
};

const FIRST_PROCESS = '/usr/local/sbin/first-process';

/** The programs of systemd are there, as its package brings them, but it does not run. */
const none: Init = {
  process: 'first-process',
  options: [],
  command: [FIRST_PROCESS],
  files: {
    [FIRST_PROCESS]: { content: readFileSync(fileURLToPath(new URL('first-process.sh', import.meta.url)), 'utf8'), mode: 0o755 },
    // Debian's own is systemd's.
    '/usr/local/sbin/reboot': { content: '#!/bin/sh\nexec kill -USR1 1\n', mode: 0o755 },
  },
  settled: ['test', '-e', '/run/first-process-is-ready'],
  isSettled: ({ code }) => code === 0,
  agentPid: ['cat', '/run/fairlead-agent.pid'],
  reboot: ['reboot'],
  state: {
    unitFiles: unitFiles('systemctl --root=/'),
    units: 'true',
    images: 'if ctr --connect-timeout=2s version >/dev/null 2>&1; then ctr -n k8s.io images list -q; fi',
  },
};

export const inits = { systemd, none } as const;
