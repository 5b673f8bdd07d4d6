import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, lstat, mkdir, mkdtemp, readdir, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { artifactSource } from '../../../../src/agent/lifecycle/artifacts/artifact-source.ts';
import { type LocalMachine, localMachine } from '../../../../src/agent/lifecycle/machine/local-machine.ts';
import type { Machine } from '../../../../src/agent/lifecycle/machine/machine.ts';
import type { Disk } from '../../../../src/agent/lifecycle/operations/disk.ts';
import { type OperationManagerOptions, operationManager } from '../../../../src/agent/lifecycle/operations/manager.ts';
import type { OperationManager, OperationRequest } from '../../../../src/agent/lifecycle/operations/request.ts';
import type { Step } from '../../../../src/agent/lifecycle/operations/step.ts';

/** A machine in a folder: real files, real programs, and a small program in the place of systemctl. */
export type Sandbox = {
  root: string;
  stateDir: string;
  artifacts: string;
  machine: LocalMachine;
  /** Everything below root but the agent's state: type, mode and content or target by path. */
  tree(): Promise<Map<string, string>>;
  manager(steps: (request: OperationRequest) => Step[], more?: Partial<OperationManagerOptions>): OperationManager;
  journals(): Promise<string[]>;
  remove(): Promise<void>;
};

/** In memory where there is such a file system: thousands of fsyncs. */
const BASE = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

/** In `base`, or in a new folder. */
export async function sandbox(given?: string): Promise<Sandbox> {
  const base = given ?? (await mkdtemp(join(BASE, 'fairlead-sandbox-')));
  const [root, bin, artifacts] = [join(base, 'root'), join(base, 'bin'), join(base, 'artifacts')];
  const stateDir = join(root, 'var/lib/fairlead-agent');
  await before(root);
  await mkdir(stateDir, { recursive: true });
  for (const [name, text] of Object.entries(programs(root))) await place(join(bin, name), `#!/bin/sh\nset -e\n${text}`, 0o755);
  const tool = '#!/bin/sh\necho tool\n';
  await place(join(artifacts, 'bin/tool'), tool, 0o644);
  await place(join(artifacts, 'SHA256SUMS'), `${createHash('sha256').update(tool).digest('hex')}  bin/tool\n`, 0o644);
  const machine = await localMachine({ root, path: `${bin}:/usr/bin:/bin`, init: 'systemd' });
  return {
    root,
    stateDir,
    artifacts,
    machine,
    tree: () => treeOf(root, stateDir),
    manager: (steps, more = {}) =>
      operationManager({
        stateDir,
        machine,
        steps,
        artifacts: artifactSource(artifacts),
        onError: () => undefined,
        retryMs: 5,
        pollMs: 2,
        ...more,
      }),
    async journals() {
      const folder = join(stateDir, 'lifecycle/operations');
      return (await readdir(folder)).sort().map((id) => join(folder, id, 'journal'));
    },
    remove: () => rm(base, { recursive: true, force: true }),
  };
}

async function place(path: string, content: string, mode: number): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, content);
  await chmod(path, mode);
}

/** What the machine is like before: files with odd modes, a tree with links, an empty folder. */
async function before(root: string): Promise<void> {
  await place(join(root, 'etc/app.conf'), 'old = 1\n', 0o640);
  await place(join(root, 'etc/old.conf'), 'to be removed\n', 0o600);
  await place(join(root, 'var/data/a'), 'a\n', 0o644);
  await place(join(root, 'var/data/sub/b'), 'b\n', 0o400);
  await mkdir(join(root, 'var/data/empty'), { mode: 0o700 });
  await symlink('sub/b', join(root, 'var/data/link'));
  await mkdir(join(root, 'usr/bin'), { recursive: true });
  await mkdir(join(root, 'etc/systemd/system'), { recursive: true });
  await mkdir(join(root, 'run/units'), { recursive: true });
}

/** With HALF they end in the middle of what they do, as if they had been killed there. */
const programs = (root: string): Record<string, string> => ({
  'make-data': `cd ${root}/var/data; echo changed > a; rm -f sub/b; [ -z "$HALF" ] || exit 0; rm -f link; ln -s a link; mkdir -p more; echo c > more/c; echo made "$1"`,
  'make-db': `mkdir -p ${root}/var/db; echo 1 > ${root}/var/db/one; [ -z "$HALF" ] || exit 0; echo 2 > ${root}/var/db/two`,
  stamp: `echo "$1" > ${root}/run/stamp; [ -z "$HALF" ] || exit 0; echo "$1" > ${root}/run/stamp2`,
  unstamp: `rm -f ${root}/run/stamp; [ -z "$HALF" ] || exit 0; rm -f ${root}/run/stamp2`,
  fail: 'echo "it is broken" >&2; exit 3',
  systemctl: `cd ${root}/run/units
case "$1" in
start|restart) test -f ${root}/etc/systemd/system/$2; echo active > $2 ;;
stop) rm -f $2 ;;
is-active) if test -f $2; then echo active; else echo inactive; exit 3; fi ;;
daemon-reload) : ;;
*) echo "$1 is not known" >&2; exit 1 ;;
esac`,
});

export async function treeOf(root: string, except: string): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  const walk = async (path: string): Promise<void> => {
    if (path === except) return;
    const info = await lstat(path);
    const mode = (info.mode & 0o7777).toString(8);
    const name = path.slice(root.length) || '/';
    if (info.isSymbolicLink()) found.set(name, `link ${await readlink(path)}`);
    else if (info.isFile()) found.set(name, `file ${mode} ${await readFile(path, 'latin1')}`);
    else {
      found.set(name, `folder ${mode}`);
      for (const entry of await readdir(path)) await walk(join(path, entry));
    }
  };
  await walk(root);
  return found;
}

/** Places at which something can go wrong, counted as they are passed. */
export type Faults = {
  passed: string[];
  /** Resolves when the machine has "lost power": nothing goes on after that, no catch and no finally. */
  crashed: Promise<'crashed'>;
  disk(disk: Disk): Disk;
  machine(machine: LocalMachine): Machine;
};

/** `crashAt`: number of the place, from 0, where everything stops for ever. `failAt`: number of the place where one error is thrown. `fullAt`: number of the write to disk that fails as on a full disk, half written. */
export function faults(plan: { crashAt?: number; failAt?: number; fullAt?: number; fullFor?: number } = {}): Faults {
  const passed: string[] = [];
  let tell: (value: 'crashed') => void = () => undefined;
  const crashed = new Promise<'crashed'>((resolve) => {
    tell = resolve;
  });
  let writes = 0;
  const never = () => {
    tell('crashed');
    return new Promise<never>(() => undefined);
  };
  const here = (name: string) => {
    const n = passed.push(name) - 1;
    if (n === plan.failAt) throw new Error(`injected ${name}`);
    return n === plan.crashAt;
  };
  async function around<T>(name: string, work: () => Promise<T>, half?: () => Promise<unknown>): Promise<T> {
    if (here(`before ${name}`)) await never();
    if (half && here(`in ${name}`)) {
      await half();
      await never();
    }
    const result = await work();
    if (here(`after ${name}`)) await never();
    return result;
  }
  async function room(): Promise<void> {
    const n = writes++;
    if (plan.fullAt === undefined || n < plan.fullAt || n >= plan.fullAt + (plan.fullFor ?? 1)) return;
    throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
  }
  return {
    passed,
    crashed,
    disk: (disk) => ({
      writeAt: (path, position, content) =>
        around(
          `journal ${/"kind":"\w+"/.exec(content)?.[0] ?? ''}`,
          async () => {
            // As on a full disk: the first half gets through.
            await room().catch(async (error) => {
              await disk.writeAt(path, position, content.slice(0, content.length >> 1));
              throw error;
            });
            await disk.writeAt(path, position, content);
          },
          () => disk.writeAt(path, position, content.slice(0, content.length >> 1)),
        ),
      replace: (path, content) =>
        around(`replace ${path.split('/').at(-1)}`, async () => {
          await room();
          await disk.replace(path, content);
        }),
      remove: (path) => around(`remove ${path.split('/').at(-1)}`, () => disk.remove(path)),
    }),
    machine: (machine) => ({
      ...machine,
      run: (command, output, signal) =>
        around(
          `run ${command.argv[0]}`,
          () => machine.run(command, output, signal),
          () => machine.run({ ...command, env: { ...command.env, HALF: '1' } }, output, signal),
        ),
      write: (path, content, mode) =>
        around(
          `write ${path}`,
          async () => {
            await room();
            await machine.write(path, content, mode);
          },
          // What `write` fills before it takes the place of the file.
          () => machine.write(join(dirname(path), `.${path.split('/').at(-1)}.fairlead-new`), 'half', 0o600),
        ),
      remove: (path) =>
        around(
          `remove ${path}`,
          () => machine.remove(path),
          async () => {
            if ((await machine.stat(path))?.type !== 'directory') return;
            for (const name of (await machine.list(path)).slice(0, 1)) await machine.remove(join(path, name));
          },
        ),
      copy: (from, to) =>
        around(
          `copy ${from}`,
          async () => {
            await room();
            await machine.copy(from, to);
          },
          async () => {
            await machine.copy(from, to);
            if ((await machine.stat(to))?.type !== 'directory') return;
            for (const name of (await machine.list(to)).slice(-1)) await machine.remove(join(to, name));
          },
        ),
      rename: (from, to) => around(`rename ${to}`, () => machine.rename(from, to)),
      changeService: (unit, change, signal) => around(`${change} ${unit}`, () => machine.changeService(unit, change, signal)),
    }),
  };
}
