import { mkdir, readdir, readFile, readlink, realpath, rm, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { readUnit, type Unit } from './unit-file.ts';

const FOLDERS = [
  '/etc/systemd/system',
  '/run/systemd/system',
  '/usr/local/lib/systemd/system',
  '/usr/lib/systemd/system',
  '/lib/systemd/system',
];
const WANTS = '/etc/systemd/system';

export type UnitFolder = {
  exists(name: string): Promise<boolean>;
  read(name: string): Promise<Unit>;
  enabled(name: string): Promise<boolean>;
  enable(name: string): Promise<void>;
  disable(name: string): Promise<void>;
};

const missing = () => undefined;

/** Unit files where systemd looks for them, and the links that `systemctl enable` makes: a later systemd finds all of it as its own. */
export function unitFolder(at: (path: string) => string): UnitFolder {
  async function find(name: string): Promise<string | undefined> {
    for (const folder of FOLDERS) if ((await readFile(at(join(folder, name))).catch(missing)) !== undefined) return join(folder, name);
    return undefined;
  }
  /** A package may have linked it by another name of the same folder, /lib/systemd/system for example. */
  async function leadsTo(link: string, path: string): Promise<boolean> {
    const target = await readlink(link).catch(missing);
    return target !== undefined && (await realpath(at(target)).catch(missing)) === (await realpath(at(path)));
  }
  async function dropIns(name: string): Promise<string[]> {
    const byName = new Map<string, string>();
    for (const folder of [...FOLDERS].reverse()) {
      const found = (await readdir(at(join(folder, `${name}.d`))).catch(missing)) ?? [];
      for (const file of found) if (file.endsWith('.conf')) byName.set(file, at(join(folder, `${name}.d`, file)));
    }
    const inOrder = [...byName.keys()].sort().map((file) => byName.get(file) ?? '');
    return Promise.all(inOrder.map((file) => readFile(file, 'utf8')));
  }
  async function links(): Promise<{ name: string; path: string }[]> {
    const folders = ((await readdir(at(WANTS)).catch(missing)) ?? []).filter((folder) => folder.endsWith('.wants'));
    const found = await Promise.all(
      folders.map(async (folder) =>
        ((await readdir(at(join(WANTS, folder))).catch(missing)) ?? []).map((name) => ({ name, path: join(WANTS, folder, name) })),
      ),
    );
    return found.flat();
  }
  async function read(name: string): Promise<Unit> {
    const path = await find(name);
    if (path === undefined) throw new Error(`there is no unit ${name}`);
    const texts = [await readFile(at(path), 'utf8'), ...(await dropIns(name))];
    return readUnit(texts, (file) => readFile(at(file), 'utf8').catch(missing)).catch((error: Error) => {
      throw new Error(`unit ${name}: ${error.message}`);
    });
  }
  return {
    exists: async (name) => (await find(name)) !== undefined,
    read,
    enabled: async (name) => (await links()).some((link) => link.name === name),
    async enable(name) {
      const path = await find(name);
      if (path === undefined) throw new Error(`there is no unit ${name}`);
      const { wantedBy } = await read(name);
      for (const target of wantedBy.length > 0 ? wantedBy : ['multi-user.target']) {
        const link = at(join(WANTS, `${target}.wants`, name));
        if (await leadsTo(link, path)) continue;
        await mkdir(dirname(link), { recursive: true });
        await rm(link, { force: true });
        await symlink(path, link);
      }
    },
    async disable(name) {
      for (const link of await links()) if (link.name === name) await rm(at(link.path), { force: true });
    },
  };
}
