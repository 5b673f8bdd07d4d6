import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { undoAtExit } from './leftovers.ts';

/** An IPv4 address of this machine that kube-apiserver accepts in an EndpointSlice (it refuses 127.0.0.0/8). */
export type LabAddress = {
  ip: string;
  /** False when it is shared with everything else on the machine, and ports must tell servers apart. */
  exclusive: boolean;
  release(): void;
};

const prefix = '198.51.100.';
const owners = () => join(tmpdir(), `fairlead-addresses-${process.getuid?.() ?? 0}`);

function ip(...args: string[]): string {
  return execFileSync('ip', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}

/** Gives an owner's mark back, and the folder of marks with the last of them. */
function unmark(file: string): void {
  rmSync(file, { force: true });
  try {
    rmdirSync(owners());
  } catch {
    // Not empty: others have addresses.
  }
}

/** False when somebody else has this address. */
function mark(file: string): boolean {
  for (;;) {
    mkdirSync(owners(), { recursive: true, mode: 0o700 });
    try {
      writeFileSync(file, String(process.pid), { flag: 'wx' });
      return true;
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false;
      // Another process took the empty folder away in between.
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
    }
  }
}

function marks(): string[] {
  try {
    return readdirSync(owners());
  } catch {
    return [];
  }
}

/** Takes away addresses whose owner died without doing so. */
function sweep(): void {
  for (const address of marks()) {
    const file = join(owners(), address);
    try {
      const pid = Number(readFileSync(file, 'utf8'));
      // 0: its owner is just writing it.
      if (pid === 0 || alive(pid)) continue;
      unmark(file);
      ip('addr', 'del', `${address}/32`, 'dev', 'lo');
    } catch {
      // Another process swept it first.
    }
  }
}

function errorText(error: unknown): string {
  if (error instanceof Error && 'stderr' in error && typeof error.stderr === 'string' && error.stderr) return error.stderr.trim();
  return error instanceof Error ? error.message : String(error);
}

function addToLoopback(): LabAddress | undefined {
  sweep();
  for (let host = 1; host < 255; host++) {
    const address = `${prefix}${host}`;
    const file = join(owners(), address);
    if (!mark(file)) continue;
    try {
      ip('addr', 'add', `${address}/32`, 'dev', 'lo');
    } catch (error) {
      unmark(file);
      if (/File exists|already assigned/i.test(errorText(error))) continue;
      return undefined;
    }
    const remove = () => {
      try {
        ip('addr', 'del', `${address}/32`, 'dev', 'lo');
      } finally {
        unmark(file);
      }
    };
    const forget = undoAtExit(remove);
    let held = true;
    return {
      ip: address,
      exclusive: true,
      release() {
        if (!held) return;
        held = false;
        forget();
        remove();
      },
    };
  }
  throw new Error(`all of ${prefix}1-254 are taken`);
}

/**
 * Takes a free address of 198.51.100.0/24 (RFC 5737, never routed) on the loopback interface, which needs CAP_NET_ADMIN. Without that: the
 * first non-loopback IPv4 address of the machine, shared. Throws when there is neither.
 */
export function acquireAddress(): LabAddress {
  const own = addToLoopback();
  if (own) return own;
  for (const entries of Object.values(networkInterfaces())) {
    const found = entries?.find((entry) => entry.family === 'IPv4' && !entry.internal && !entry.address.startsWith('169.254.'));
    if (found) return { ip: found.address, exclusive: false, release: () => undefined };
  }
  throw new Error(
    'kube-apiserver needs a non-loopback address to reach the hub, and this machine has none: ' +
      'run as root (CAP_NET_ADMIN and the "ip" command), or `ip addr add 198.51.100.1/32 dev lo`, or connect it to a network',
  );
}
