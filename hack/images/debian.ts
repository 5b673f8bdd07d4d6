import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { put } from './put.ts';

const xtables = ['iptables', 'iptables-save', 'iptables-restore', 'ip6tables', 'ip6tables-save', 'ip6tables-restore'];

/** iptables, nft and conntrack of the Debian machine `rootfs`, with what `ldd` says that they need. */
export function putPacketFilters(rootfs: string, folder: string): void {
  const binaries = ['/usr/sbin/xtables-nft-multi', '/usr/sbin/nft', '/usr/sbin/conntrack'];
  const plugins = execFileSync('chroot', [rootfs, 'find', '/usr/lib', '-path', '*/xtables/*.so'], { encoding: 'utf8' }).trim().split('\n');
  const needed = execFileSync('chroot', [rootfs, 'ldd', ...binaries, ...plugins], { encoding: 'utf8' });
  const libraries = [...needed.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map((match) => match[1] ?? '');
  for (const link of ['bin', 'sbin', 'lib', 'lib64']) {
    mkdirSync(join(folder, 'usr', link), { recursive: true });
    symlinkSync(`usr/${link}`, join(folder, link));
  }
  for (const file of new Set([...binaries, ...plugins, ...libraries])) {
    const target = join(folder, file);
    mkdirSync(dirname(target), { recursive: true });
    copyFileSync(join(rootfs, file), target);
  }
  for (const name of xtables) symlinkSync('xtables-nft-multi', join(folder, 'usr/sbin', name));
}

/** busybox in /bin, under each of its names. */
export function putBusybox(busybox: string, folder: string): void {
  put(busybox, join(folder, 'bin/busybox'));
  const names = execFileSync(busybox, ['--list'], { encoding: 'utf8' }).trim().split('\n');
  for (const name of names) if (name !== 'busybox') symlinkSync('busybox', join(folder, 'bin', name));
}
