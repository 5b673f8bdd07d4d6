import { arch, cpus, hostname, networkInterfaces, totalmem } from 'node:os';
import type { Facts, MachineView } from './machine.ts';

const CAP_SYS_RESOURCE = 24n;

/** Reads what the machine is. `files` reads below the machine's root; where a file is missing there (in a sandbox), it counts as empty. */
export async function readFacts(files: Pick<MachineView, 'read' | 'stat' | 'list' | 'which'>): Promise<Facts> {
  const text = async (path: string) => (await files.read(path)) ?? '';
  const release = fieldsOf(await text('/etc/os-release'), '=');
  const status = fieldsOf(await text('/proc/self/status'), ':');
  const memory = /^MemTotal:\s+(\d+) kB$/m.exec(await text('/proc/meminfo'))?.[1];
  const machine = arch();
  if (machine !== 'x64' && machine !== 'arm64') throw new Error(`machines of architecture ${machine} are not supported`);
  const installed = async (program: string) => (await files.which(program)) !== undefined;
  return {
    hostname: hostname().toLowerCase(),
    architecture: machine === 'x64' ? 'amd64' : 'arm64',
    os: { id: release.get('ID') ?? '', version: release.get('VERSION_ID') ?? '' },
    cpus: cpus().length,
    memoryBytes: memory === undefined ? totalmem() : Number(memory) * 1024,
    // The first line is a heading.
    swap: (await text('/proc/swaps')).trim().split('\n').length > 1,
    cgroup: (await files.stat('/sys/fs/cgroup/cgroup.controllers')) ? 2 : 1,
    mayRaiseLimits: ['CapEff', 'CapBnd'].every((set) => hasCapability(status.get(set) ?? '0', CAP_SYS_RESOURCE)),
    addresses: addressesOf(await text('/proc/net/route'), await text('/proc/net/ipv6_route')),
    initSystem: (await files.stat('/run/systemd/system')) ? 'systemd' : 'none',
    packageManager: (await installed('apt-get')) ? 'apt' : (await installed('dnf')) ? 'dnf' : 'none',
    bootID: (await text('/proc/sys/kernel/random/boot_id')).trim(),
  };
}

function fieldsOf(text: string, separator: string): Map<string, string> {
  const fields = new Map<string, string>();
  for (const line of text.split('\n')) {
    const at = line.indexOf(separator);
    if (at > 0)
      fields.set(
        line.slice(0, at),
        line
          .slice(at + 1)
          .trim()
          .replace(/^(["'])(.*)\1$/, '$2'),
      );
  }
  return fields;
}

function hasCapability(hex: string, capability: bigint): boolean {
  return ((BigInt(`0x${hex}`) >> capability) & 1n) === 1n;
}

/** `routes` and `routes6`: /proc/net/route and /proc/net/ipv6_route. */
function addressesOf(routes: string, routes6: string): string[] {
  const fields = (text: string) => text.split('\n').map((line) => line.trim().split(/\s+/));
  const byDefault = new Set([
    ...fields(routes).flatMap(([name, destination, , , , , , mask]) =>
      destination === '00000000' && mask === '00000000' && name ? [name] : [],
    ),
    ...fields(routes6).flatMap((row) => {
      const name = row[9];
      return row[0] === '0'.repeat(32) && row[1] === '00' && name !== undefined && name !== 'lo' ? [name] : [];
    }),
  ]);
  const all = Object.entries(networkInterfaces()).flatMap(([name, entries = []]) =>
    entries.filter((entry) => !entry.internal && !/^(fe80|169\.254\.)/i.test(entry.address)).map((entry) => ({ name, ...entry })),
  );
  const preferred = all.filter((entry) => byDefault.has(entry.name));
  const chosen = preferred.length > 0 ? preferred : all;
  return [...chosen.filter((entry) => entry.family === 'IPv4'), ...chosen.filter((entry) => entry.family === 'IPv6')].map(
    (entry) => entry.address,
  );
}
