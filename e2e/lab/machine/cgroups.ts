import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const root = '/sys/fs/cgroup';

/** A control group of a machine in every hierarchy that is mounted here. */
export type MachineCgroups = {
  /** A process that writes its pid to each of these belongs to the machine. */
  procs: readonly string[];
  /** Removes the groups with all below them, and ends the processes in them. Idempotent. */
  remove(): void;
};

/** The roots of the hierarchies: the one of cgroup v2, or each of v1. */
function hierarchies(): string[] {
  if (existsSync(join(root, 'cgroup.controllers'))) return [root];
  return readdirSync(root)
    .map((entry) => join(root, entry))
    .filter((folder) => existsSync(join(folder, 'cgroup.procs')));
}

function write(file: string, text: string): void {
  if (existsSync(file)) writeFileSync(file, text);
}

function endProcesses(folder: string): void {
  for (const line of readFileSync(join(folder, 'cgroup.procs'), 'utf8').split('\n')) {
    if (line === '' || line === '0' || Number(line) === process.pid) continue;
    try {
      process.kill(Number(line), 'SIGKILL');
    } catch {
      // It ended meanwhile.
    }
  }
}

function removeTree(folder: string): void {
  for (const entry of readdirSync(folder, { withFileTypes: true })) if (entry.isDirectory()) removeTree(join(folder, entry.name));
  endProcesses(folder);
  rmdirSync(folder);
}

/** A group stays busy for a moment after its last process was killed. Synchronous, because it also runs at the end of the process. */
function removeGroup(folder: string): void {
  for (let attempt = 0; existsSync(folder); attempt++) {
    try {
      removeTree(folder);
      return;
    } catch (error) {
      if (attempt === 200) throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
    }
  }
}

/** Makes the groups. `memory` in bytes limits what all processes of the machine use together. */
export function createCgroups(name: string, memory: number): MachineCgroups {
  const folders = hierarchies().map((hierarchy) => join(hierarchy, name));
  const remove = () => {
    for (const folder of folders) removeGroup(folder);
  };
  for (const folder of folders) {
    mkdirSync(folder, { recursive: true });
    // A group of cpuset takes no process before it has these.
    for (const file of ['cpuset.cpus', 'cpuset.mems']) {
      const parent = join(folder, '..', file);
      if (existsSync(parent)) write(join(folder, file), readFileSync(parent, 'utf8'));
    }
    write(join(folder, 'memory.limit_in_bytes'), String(memory));
    write(join(folder, 'memory.max'), String(memory));
  }
  return { procs: folders.map((folder) => join(folder, 'cgroup.procs')), remove };
}

/** Removes the groups of machines for which `dead` says so. */
export function sweepCgroups(dead: (name: string) => boolean): void {
  for (const hierarchy of hierarchies()) {
    for (const entry of readdirSync(hierarchy, { withFileTypes: true })) {
      if (entry.isDirectory() && dead(entry.name)) removeGroup(join(hierarchy, entry.name));
    }
  }
}
