import type { MachineView } from '../../machine/machine.ts';
import type { Action, Step, StepContext } from '../../operations/step.ts';
import { StepError } from '../../operations/step.ts';
import { waitApi } from '../common/node-state.ts';
import { ask, lines, run, step, tryRun } from '../common/run.ts';
import { ADMIN_CONF, CTR, PKI } from './paths.ts';

const DATA = '/var/lib/etcd';
const MEMBER = `${DATA}/member`;
/** The data that stood there, while it is replaced. */
const ASIDE = `${DATA}/member.before-restore`;
const ENDPOINT = 'https://127.0.0.1:2379';

export const snapshotFile = (folder: string) => `${folder}/etcd.db`;
const etcdctl = (folder: string) => `${folder}/etcdctl`;
const etcdutl = (folder: string) => `${folder}/etcdutl`;
const mountPoint = (folder: string) => `${folder}/etcd-image`;

/** The image of the etcd that runs, by its manifest. */
async function etcdImage({ machine }: StepContext): Promise<string> {
  const image = /^\s*image:\s*(\S+)\s*$/m.exec((await machine.read('/etc/kubernetes/manifests/etcd.yaml')) ?? '')?.[1];
  if (!image) throw new StepError('there is no etcd among the static pods of this machine, so nothing can be saved');
  const there = lines(await ask(machine, [...CTR, 'images', 'ls', '-q', `name==${image}`]));
  if (!there.includes(image)) throw new StepError(`the image ${image} of the etcd that runs is not in containerd`);
  return image;
}

/**
 * A snapshot of etcd in the operation's folder, verified. etcdctl and etcdutl come out of the image of the etcd that runs; the latter stays beside the snapshot, so that going back
 * needs no container runtime. It stays after the operation.
 */
export function etcdSnapshotStep(): Step {
  return step({
    name: 'etcd-snapshot',
    run: async (context) => {
      const { folder } = context;
      const at = mountPoint(folder);
      const key = `${PKI}/etcd/healthcheck-client`;
      const tls = ['--cacert', `${PKI}/etcd/ca.crt`, '--cert', `${key}.crt`, '--key', `${key}.key`];
      return [
        run(['mkdir', '-p', at]),
        tryRun([...CTR, 'images', 'unmount', '--rm', at]),
        run([...CTR, 'images', 'mount', await etcdImage(context), at]),
        run(['cp', `${at}/usr/local/bin/etcdctl`, `${at}/usr/local/bin/etcdutl`, folder]),
        run([...CTR, 'images', 'unmount', '--rm', at]),
        run(['rmdir', at]),
        waitApi(ADMIN_CONF),
        run([etcdctl(folder), '--endpoints', ENDPOINT, ...tls, 'snapshot', 'save', snapshotFile(folder)], { timeoutMs: 300_000 }),
        { kind: 'remove', path: etcdctl(folder) },
        run([etcdutl(folder), 'snapshot', 'status', snapshotFile(folder), '--write-out=json'], { timeoutMs: 120_000 }),
      ];
    },
    verify: async ({ machine, folder }) => {
      const info = await machine.stat(snapshotFile(folder));
      if (!info || info.size === 0) throw new Error('the snapshot is empty');
    },
    undo: async ({ machine, folder }) => {
      const at = mountPoint(folder);
      return (await machine.stat(at))
        ? [tryRun([...CTR, 'images', 'unmount', '--rm', at]), tryRun(['umount', '-l', at]), tryRun(['rmdir', at])]
        : [];
    },
  });
}

/**
 * Actions that put etcd's data back from the snapshot, with kubelet and static pods stopped. The data that stood there is kept beside it until the new one is in place, so that a
 * cut at any point can be begun again. The member keeps its name and address, which etcd checks.
 */
export async function restoreActions(machine: MachineView, folder: string, member: EtcdMember): Promise<Action[]> {
  const fresh = `${folder}/etcd-restored`;
  const there = (await machine.stat(MEMBER)) !== undefined;
  // What stands in its place after a cut is a copy, whole or not.
  const putAside = (await machine.stat(ASIDE)) ? run(['rm', '-rf', MEMBER]) : run(['mv', MEMBER, ASIDE]);
  return [
    { kind: 'remove', path: fresh },
    run(
      [
        etcdutl(folder),
        'snapshot',
        'restore',
        snapshotFile(folder),
        '--data-dir',
        fresh,
        '--name',
        member.name,
        '--initial-cluster',
        `${member.name}=${member.peer}`,
        '--initial-advertise-peer-urls',
        member.peer,
        ...(member.bumps ? ['--bump-revision', '1000000000', '--mark-compacted'] : []),
      ],
      { timeoutMs: 300_000 },
    ),
    ...(there ? [putAside] : []),
    run(['cp', '-a', `${fresh}/member`, MEMBER], { timeoutMs: 300_000 }),
    run(['sync', '-f', DATA]),
    run(['rm', '-rf', ASIDE]),
    { kind: 'remove', path: fresh },
  ];
}

/** `bumps`: whether its tools can let revisions go on after those that watchers have seen (since etcd 3.6), so that no cache takes old objects for new ones. */
export type EtcdMember = { name: string; peer: string; bumps: boolean };

/** Name and peer address of the member, as the manifest of etcd has them. */
export function etcdMember(manifest: string): EtcdMember | undefined {
  const name = /--name=(\S+)/.exec(manifest)?.[1];
  const peer = /--initial-advertise-peer-urls=(\S+)/.exec(manifest)?.[1];
  const [, major, minor] = /image:\s*\S+:v?(\d+)\.(\d+)/.exec(manifest) ?? [];
  return name && peer ? { name, peer, bumps: Number(major) > 3 || Number(minor) >= 6 } : undefined;
}
