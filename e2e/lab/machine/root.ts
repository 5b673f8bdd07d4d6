import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { noNetworkNamespaces } from '../network.ts';
import type { Ends } from './cable.ts';

const script = fileURLToPath(new URL('../../../hack/machine-rootfs.sh', import.meta.url));
const OVERLAYFS = 0x794c7630;
/** What has a later ctime than this file was changed after the machine was copied. */
export const firstFileAfterTheCopy = '/etc/machine-id';
let template: { folder: string } | { reason: string } | undefined;

function errorText(error: unknown): string {
  if (error instanceof Error && 'stderr' in error && typeof error.stderr === 'string' && error.stderr.trim() !== '') {
    return error.stderr.trim().split('\n').at(-1) ?? '';
  }
  return error instanceof Error ? error.message : String(error);
}

function findTemplate(): { folder: string } | { reason: string } {
  const noNetwork = process.platform === 'linux' ? noNetworkNamespaces() : 'machines with systemd need Linux';
  if (noNetwork !== undefined) return { reason: noNetwork };
  if (statfsSync(tmpdir()).type === OVERLAYFS) {
    return {
      reason: `${tmpdir()} is on overlayfs, on which containerd in a machine cannot work: set TMPDIR to a folder on ext4, xfs or tmpfs`,
    };
  }
  try {
    return { folder: execFileSync(script, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim() };
  } catch (error) {
    return { reason: errorText(error) };
  }
}

/** Why no machine can run here, undefined when it can. The first call on a computer makes the file system that machines are copied from. */
export function noRoot(): string | undefined {
  template ??= findTemplate();
  return 'reason' in template ? template.reason : undefined;
}

/** The folder that hack/machine-rootfs.sh made: rootfs/, sums and packages/. */
export function templateFolder(): string {
  const reason = noRoot();
  if (template === undefined || 'reason' in template) throw new Error(`no machine can run here: ${reason}`);
  return template.folder;
}

/** Copies the file system to `root` and gives it a name, a machine id and the addresses of its cable. */
export function copyRoot(root: string, name: string, { host, inside }: Ends): void {
  execFileSync('cp', ['-a', '--reflink=auto', join(templateFolder(), 'rootfs'), root]);
  const files: Record<string, string> = {
    [firstFileAfterTheCopy]: `${randomBytes(16).toString('hex')}\n`,
    'etc/hostname': `${name}\n`,
    'etc/hosts': `127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n${inside} ${name}\n`,
    // Nothing answers there; CoreDNS wants an address to forward to, and refuses to start without one.
    'etc/resolv.conf': `nameserver ${host}\n`,
  };
  for (const [path, text] of Object.entries(files)) writeRootFile(root, path, text);
}

/** Writes a file of a machine that does not run. */
export function writeRootFile(root: string, path: string, content: string | Uint8Array, mode = 0o644): void {
  const file = join(root, path);
  mkdirSync(dirname(file), { recursive: true });
  rmSync(file, { force: true });
  writeFileSync(file, content, { mode });
}
