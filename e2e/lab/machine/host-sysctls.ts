import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

// They belong to the kernel, not to a namespace: systemd sets the first ones at boot, a kubelet and kube-proxy the others.
const shared = [
  'kernel/core_pattern',
  'kernel/core_uses_pid',
  'kernel/pid_max',
  'kernel/sysrq',
  'fs/protected_fifos',
  'fs/protected_hardlinks',
  'fs/protected_regular',
  'fs/protected_symlinks',
  'fs/suid_dumpable',
  'fs/inotify/max_user_instances',
  'fs/inotify/max_user_watches',
  'kernel/keys/root_maxbytes',
  'kernel/keys/root_maxkeys',
  'kernel/panic',
  'kernel/panic_on_oops',
  'vm/max_map_count',
  'vm/overcommit_memory',
  'vm/panic_on_oom',
  'net/netfilter/nf_conntrack_max',
];

const folder = () => join(tmpdir(), `fairlead-sysctls-${process.getuid?.() ?? 0}`);
const saved = () => join(folder(), 'before.json');

function read(name: string): string | undefined {
  try {
    return readFileSync(`/proc/sys/${name}`, 'utf8').trim();
  } catch {
    return undefined;
  }
}

/** Ids of the machines that still change them; those of processes that died are taken out. */
function owners(): string[] {
  const ids = readdirSync(folder()).filter((entry) => /^\d+-\d+$/.test(entry));
  return ids.filter((id) => {
    if (existsSync(`/proc/${id.split('-')[0]}`)) return true;
    rmSync(join(folder(), id), { force: true });
    return false;
  });
}

function restore(): void {
  const before = JSON.parse(readFileSync(saved(), 'utf8')) as Record<string, string>;
  for (const [name, value] of Object.entries(before)) if (read(name) !== value) writeFileSync(`/proc/sys/${name}`, value);
  rmSync(folder(), { recursive: true, force: true });
}

let serial = 0;

/**
 * Notes the settings of this computer's kernel that a machine of the lab changes with it. The function that is returned (idempotent) sets them
 * back when no other machine, of whichever process, is there any more.
 */
export function keepHostSysctls(): () => void {
  const mine = `${process.pid}-${++serial}`;
  mkdirSync(folder(), { recursive: true, mode: 0o700 });
  const others = owners();
  // The processes that noted them were killed: what they noted is still what was there before.
  if (others.length === 0 && existsSync(saved())) restore();
  mkdirSync(folder(), { recursive: true, mode: 0o700 });
  writeFileSync(join(folder(), mine), '');
  if (!existsSync(saved())) {
    const values = shared.map((name) => [name, read(name)] as const).filter(([, value]) => value !== undefined);
    writeFileSync(saved(), JSON.stringify(Object.fromEntries(values)), { mode: 0o600 });
  }
  let held = true;
  return () => {
    if (!held) return;
    held = false;
    rmSync(join(folder(), mine), { force: true });
    if (owners().length === 0) restore();
  };
}
