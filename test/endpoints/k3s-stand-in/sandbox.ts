import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { localMachine } from '../../../src/agent/lifecycle/machine/local-machine.ts';
import type { Machine } from '../../../src/agent/lifecycle/machine/machine.ts';
import { waitUntil } from '../../support/wait-until.ts';

const here = import.meta.dirname;
/** Programs of the system that the stand-ins' scripts use. */
const BORROWED = ['sh', 'cat', 'cp', 'mv', 'rm', 'rmdir', 'mkdir', 'ln', 'chmod', 'grep', 'sed', 'sleep', 'setsid', 'tail'];
/** Programs that change a machine and must not reach the real one. */
const HARMLESS = ['find', 'umount', 'modprobe'];
export const HOST = 'edge-1';

/** A folder that passes for a machine, on which the stand-ins of systemd and k3s work. */
export type Sandbox = {
  root: string;
  /** The agent's state, below the root. */
  stateDir: string;
  /** A folder with artifacts of both versions. */
  artifacts: string;
  /** Lets the machine have curl, and `url` (https) answer it with the installer, or with the releases below it. Without it there is no way out. */
  offer(what: 'installer' | 'releases', url: string): void;
  /** The URLs that curl was asked for, in order. */
  asked(): string[];
  machine(): Promise<Machine & { close(): void }>;
  /** What goes wrong from now on; see k3s.ts, server.ts and install.sh. */
  setFaults(...faults: string[]): void;
  /** Everything on the machine but the agent's own state, by path: mode, and digest or target. */
  tree(): Record<string, string>;
  /** Pid of the server that runs. */
  serverPid(): number | undefined;
  /** Power cut: the server is gone; the unit starts anew when it is enabled. */
  powerCut(): Promise<void>;
  close(): Promise<void>;
};

export function k3sSandbox(versions: readonly string[]): Sandbox {
  const box = mkdtempSync(join(tmpdir(), 'fairlead-k3s-'));
  const [root, bin, own, artifacts, downloads] = ['machine', 'bin', 'private', 'artifacts', 'downloads'].map((name) => join(box, name)) as [
    string,
    string,
    string,
    string,
    string,
  ];
  const stateDir = join(root, 'var/lib/fairlead-agent');
  const put = (file: string, content: string, mode = 0o644) => {
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, content);
    chmodSync(file, mode);
  };
  const filled = (name: string) =>
    readFileSync(join(here, name), 'utf8')
      .replaceAll('@ROOT@', root)
      .replaceAll('@PRIVATE@', own)
      .replaceAll('@DOWNLOADS@', downloads)
      .replaceAll('@FAULTS@', join(own, 'faults'));

  for (const [path, content] of Object.entries(MACHINE)) put(join(root, path), content);
  for (const folder of ['run/systemd/system', 'usr/local/bin', 'var/log', 'var/lib', 'proc/sys/net/bridge'])
    mkdirSync(join(root, folder), { recursive: true });
  mkdirSync(own);
  mkdirSync(bin);
  for (const name of BORROWED)
    symlinkSync(['/usr/bin', '/bin'].map((folder) => join(folder, name)).find(existsSync) ?? name, join(bin, name));
  for (const name of HARMLESS) put(join(bin, name), '#!/bin/sh\nexit 0\n', 0o755);
  put(join(bin, 'systemctl'), filled('systemctl.sh'), 0o755);
  put(join(bin, 'journalctl'), `#!/bin/sh\n[ ! -e ${own}/journal ] || tail -n 50 ${own}/journal\n`, 0o755);
  put(
    join(bin, 'sysctl'),
    `#!/bin/sh\nname=\${2%%=*}\nprintf '%s\\n' "\${2#*=}" >"${root}/proc/sys/$(printf %s "$name" | sed 's#\\.#/#g')"\n`,
    0o755,
  );
  put(join(bin, 'ip'), `#!/bin/sh\nfile=${root}/proc/net/dev\ngrep -v "^$3:" $file >$file.new\nmv $file.new $file\n`, 0o755);
  // What needs no state is answered by the shell, which starts faster.
  const quick = (version: string) => `case $1 in --version) echo 'k3s version ${version} (00000000)'; exit ;; ctr) exit ;; esac`;
  const program = (version: string) =>
    `#!/bin/sh\n${quick(version)}\nexport K3S_STAND_IN_OWNER=${process.pid}\nexec '${process.execPath}' '${join(here, 'k3s.ts')}' '${root}' '${own}' '${version}' "$@"\n`;
  const sums: string[] = [];
  for (const version of versions) {
    for (const [name, content] of [
      ['install.sh', filled('install.sh')],
      ['k3s', program(version)],
      ['k3s-airgap-images.tar', `images of ${version}`],
    ] as const) {
      put(join(artifacts, 'k3s', version, name), content);
      sums.push(`${createHash('sha256').update(content).digest('hex')}  k3s/${version}/${name}\n`);
    }
  }
  put(join(artifacts, 'SHA256SUMS'), sums.join(''));

  const alive = (pid: number) => {
    try {
      process.kill(pid, 0);
      return true;
    } catch {
      return false;
    }
  };
  const serverPid = () => {
    const file = join(own, 'k3s.pid');
    const pid = existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0;
    return pid > 0 && alive(pid) ? pid : undefined;
  };
  async function stopServer(): Promise<void> {
    const pid = serverPid();
    if (pid === undefined) return;
    process.kill(pid, 'SIGKILL');
    await waitUntil(() => !alive(pid), 'the stand-in of k3s to end');
  }
  return {
    root,
    stateDir,
    artifacts,
    offer(what, url) {
      put(join(bin, 'curl'), filled('curl.sh'), 0o755);
      const place = join(downloads, url.slice('https://'.length));
      if (what === 'installer') put(place, filled('install.sh'));
      else for (const version of versions) put(join(place, 'download', version, 'k3s'), program(version));
    },
    asked: () => linesOf(join(own, 'asked')),
    async machine() {
      const real = await localMachine({ root, path: `${root}/usr/local/bin:${bin}`, init: 'systemd' });
      return { ...real, facts: async () => ({ ...(await real.facts()), hostname: HOST, addresses: ['192.0.2.5'] }) };
    },
    setFaults: (...faults) => writeFileSync(join(own, 'faults'), faults.map((fault) => `${fault}\n`).join('')),
    tree: () => treeOf(root, [stateDir]),
    serverPid,
    async powerCut() {
      await stopServer();
      if (existsSync(join(root, 'etc/systemd/system/multi-user.target.wants/k3s.service'))) {
        execFileSync(join(bin, 'systemctl'), ['start', 'k3s'], { env: { PATH: `${root}/usr/local/bin:${bin}` } });
      }
    },
    async close() {
      await stopServer();
      rmSync(box, { recursive: true, force: true });
    },
  };
}

const linesOf = (file: string) => (existsSync(file) ? readFileSync(file, 'utf8').split('\n').filter(Boolean) : []);

/** Files of the sandbox's machine, before anything. */
const MACHINE: Readonly<Record<string, string>> = {
  'etc/hosts': `127.0.0.1 localhost\n192.0.2.5 ${HOST}\n`,
  'etc/os-release': 'ID=debian\nVERSION_ID="12"\n',
  'proc/filesystems': 'nodev\toverlay\n',
  'proc/modules': '',
  'proc/mounts': '',
  'proc/meminfo': 'MemTotal:        4000000 kB\n',
  'proc/net/dev': 'Inter-|   Receive\n face |bytes\nlo: 0\neth0: 0\n',
  'proc/net/tcp': '  sl  local_address\n',
  'proc/sys/net/bridge/bridge-nf-call-iptables': '0\n',
  'proc/sys/net/ipv4/ip_forward': '0\n',
  'proc/sys/vm/overcommit_memory': '0\n',
};

function treeOf(root: string, without: readonly string[]): Record<string, string> {
  const found: Record<string, string> = {};
  const walk = (folder: string) => {
    for (const name of readdirSync(folder).sort()) {
      const path = join(folder, name);
      if (without.includes(path)) continue;
      const info = lstatSync(path);
      const mode = (info.mode & 0o7777).toString(8);
      const key = path.slice(root.length);
      if (info.isSymbolicLink()) found[key] = `-> ${readlinkSync(path)}`;
      else if (info.isDirectory()) {
        found[key] = `folder ${mode}`;
        walk(path);
      } else found[key] = `${mode} ${createHash('sha256').update(readFileSync(path)).digest('hex')}`;
    }
  };
  walk(root);
  return found;
}
