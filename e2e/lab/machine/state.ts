import type { ExecOptions, ExecResult } from './exec.ts';
import type { Init } from './init.ts';
import { firstFileAfterTheCopy } from './root.ts';

/** What is on a machine, by section and name: two of them are compared to see whether something was left. */
export type MachineState = Record<(typeof sections)[number], Record<string, string>>;

const sections = ['files', 'unitFiles', 'units', 'interfaces', 'mounts', 'sysctls', 'rules', 'images', 'processes'] as const;

/** Paths whose content changes without anybody installing anything; containerd's store is compared by its images instead. */
export const volatilePaths: readonly string[] = [
  '/proc',
  '/sys',
  '/dev',
  '/run',
  '/tmp',
  '/var/log',
  '/var/tmp',
  '/var/cache',
  '/var/lib/containerd',
  '/var/lib/systemd',
  '/var/lib/apt/lists',
  '/var/lib/dpkg/lock',
  '/var/lib/dpkg/lock-frontend',
  '/var/lib/dpkg/status-old',
  '/var/lib/dpkg/triggers/Lock',
  '/root/.bash_history',
];

/** Settings that an installation of Kubernetes or Kubernetes itself sets. */
const sysctls = [
  'net.ipv4.ip_forward',
  'net.ipv4.conf.all.route_localnet',
  'net.ipv4.conf.all.rp_filter',
  'net.ipv4.conf.default.rp_filter',
  'net.ipv6.conf.all.forwarding',
  'net.ipv6.conf.default.forwarding',
  'net.bridge.bridge-nf-call-iptables',
  'net.bridge.bridge-nf-call-ip6tables',
  'net.bridge.bridge-nf-call-arptables',
  'net.netfilter.nf_conntrack_max',
  'net.netfilter.nf_conntrack_tcp_timeout_established',
  'net.netfilter.nf_conntrack_tcp_timeout_close_wait',
  'kernel.panic',
  'kernel.panic_on_oops',
  'kernel.keys.root_maxkeys',
  'kernel.keys.root_maxbytes',
  'vm.overcommit_memory',
  'vm.panic_on_oom',
  'vm.max_map_count',
  'vm.swappiness',
  'fs.inotify.max_user_instances',
  'fs.inotify.max_user_watches',
];

type Exec = (argv: readonly string[], options?: ExecOptions) => Promise<ExecResult>;

async function lines(exec: Exec, script: string, input = ''): Promise<string[]> {
  const { code, stdout, stderr } = await exec(['/bin/bash', '-o', 'pipefail', '-c', script], { input, timeout: 300_000 });
  if (code !== 0) throw new Error(`reading the state of the machine: exit code ${code} of ${script}: ${stderr}`);
  return stdout.split('\n').filter((line) => line !== '');
}

/** Splits each line at its first tab; a key that comes twice gets a number. */
function table(rows: readonly string[]): Record<string, string> {
  const result: Record<string, string> = {};
  for (const row of rows) {
    const at = row.indexOf('\t');
    const key = at < 0 ? row : row.slice(0, at);
    let unique = key;
    for (let count = 2; unique in result; count++) unique = `${key} (${count})`;
    result[unique] = at < 0 ? '' : row.slice(at + 1);
  }
  return Object.fromEntries(Object.entries(result).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Lines of sha256sum by path. */
function hashes(rows: readonly string[]): Map<string, string> {
  return new Map(rows.map((row) => [row.slice(66), row.slice(0, 64)]));
}

/** `original`: the hashes of the files that the machine was copied with. Only what was changed since then is read, told by its ctime. */
async function files(exec: Exec, except: readonly string[], original: ReadonlyMap<string, string>): Promise<Record<string, string>> {
  const pruned = except.map((path) => `-path ${path}`).join(' -o ');
  const find = `find / -xdev \\( ${pruned} \\) -prune -o`;
  const result = table((await lines(exec, `${find} -printf '%p\\t%y %m %U:%G %l\\n'`)).map((line) => line.trimEnd()));
  const hash = async (list: string, input?: string) =>
    hashes(await lines(exec, `${list} | xargs -0 -r sha256sum -z | tr '\\0' '\\n'`, input));
  const changed = await hash(`${find} -type f -newercc ${firstFileAfterTheCopy} -print0`);
  const unknown = Object.keys(result).filter((path) => result[path]?.startsWith('f ') && !changed.has(path) && !original.has(path));
  const others = await hash('cat', unknown.map((path) => `${path}\0`).join(''));
  for (const [path, entry] of Object.entries(result)) {
    if (entry.startsWith('f ')) result[path] = `${entry} sha256 ${changed.get(path) ?? original.get(path) ?? others.get(path)}`;
  }
  return result;
}

type Scripts = Record<Exclude<(typeof sections)[number], 'files'>, string>;

const common: Omit<Scripts, keyof Init['state']> = {
  interfaces: `ip -o addr show | awk '$3 != "inet6" { print $2 " " $3 "\\t" $4 }'; ip -o link show | awk -F': ' '{ split($2, name, "@"); print name[1] "\\tthere" }'; ip route show | sort`,
  mounts: `awk '$5 !~ /^\\/run\\/(credentials|user)/ { for (i = 7; $i != "-"; i++); print $5 "\\t" $(i+1) " " $(i+2) }' /proc/self/mountinfo`,
  sysctls: `for name in ${sysctls.join(' ')}; do value=$(sysctl -n "$name" 2>/dev/null | tr '\\t' ' ') && printf '%s\\t%s\\n' "$name" "$value"; done; true`,
  rules: `for tool in iptables ip6tables; do for kind in nft legacy; do "$tool-$kind-save" 2>/dev/null | sed -n -e "s/^:\\([^ ]* [^ ]*\\) .*/$tool-$kind :\\1/p" -e "s/^[*-]/$tool-$kind &/p"; done; done; nft list ruleset | sed -e 's/counter packets [0-9]* bytes [0-9]*/counter/' -e 's/^\\s*/nft /'`,
  processes: `ps -e -o ppid=,comm= | awk '$1 != 0 && $2 !~ /^(bash|ps|awk|sort|timeout|env|\\(sd-pam\\)|systemd-hostnam|systemd-timedat)$/ { print $2 }' | sort -u`,
};

/**
 * Reads it all; takes a few seconds. `binds` are folders of the host that are shown in the machine and do not belong to it; `sums` are the
 * hashes of the files that it was copied with, as sha256sum prints them.
 */
export async function readState(exec: Exec, init: Init, binds: readonly string[], sums: string): Promise<MachineState> {
  const scripts: Scripts = { ...common, ...init.state };
  const read = async (section: keyof Scripts) => table(await lines(exec, scripts[section]));
  return {
    files: await files(exec, [...volatilePaths, ...binds], hashes(sums.split('\n'))),
    unitFiles: await read('unitFiles'),
    units: await read('units'),
    interfaces: await read('interfaces'),
    mounts: await read('mounts'),
    sysctls: await read('sysctls'),
    rules: await read('rules'),
    images: await read('images'),
    processes: await read('processes'),
  };
}

/** One line for each difference: `files: /etc/x: added: f 644 0:0 sha256 ...`. Empty when there is none. */
export function diffState(before: MachineState, after: MachineState): string[] {
  return sections.flatMap((section) => {
    const [old, now] = [before[section], after[section]];
    return [...new Set([...Object.keys(old), ...Object.keys(now)])].sort().flatMap((name) => {
      const [was, is] = [old[name], now[name]];
      if (was === is) return [];
      if (was === undefined) return [`${section}: ${name}: added${is ? `: ${is}` : ''}`];
      if (is === undefined) return [`${section}: ${name}: removed${was ? `: ${was}` : ''}`];
      return [`${section}: ${name}: changed: ${was} -> ${is}`];
    });
  });
}
