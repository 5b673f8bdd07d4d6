import { chmod, lstat, mkdir, mkdtemp, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { endLeftovers, MARK } from '../../../../src/agent/lifecycle/machine/leftovers.ts';
import { localMachine } from '../../../../src/agent/lifecycle/machine/local-machine.ts';
import { CommandError } from '../../../../src/agent/lifecycle/machine/machine.ts';
import { identify } from '../../../../src/agent/lifecycle/machine/processes.ts';
import { cleanUp } from '../../../support/clean-up.ts';

const { after, signal } = cleanUp();

async function machine() {
  const root = await mkdtemp(join(tmpdir(), 'fairlead-machine-'));
  after(() => rm(root, { recursive: true, force: true }));
  return { root, made: await localMachine({ root, path: '/usr/bin:/bin' }) };
}
const script = (text: string, more = {}) => ({ argv: ['sh', '-c', text], timeoutMs: 20_000, ...more });

test('a command: output line by line from both streams, input, environment, code', async () => {
  const { made } = await machine();
  const lines: string[] = [];
  const result = await made.run(
    script('cat; echo "$PATH $HOME $X" >&2; printf "no newline"', { input: 'one\ntwo\n', env: { X: 'set' } }),
    (line) => lines.push(line),
    signal(),
  );
  expect(result).toEqual({ code: 0, stdout: 'one\ntwo\nno newline', stderr: '/usr/bin:/bin /root set\n' });
  expect(lines.sort()).toEqual(['/usr/bin:/bin /root set', 'no newline', 'one', 'two']);
  process.env['FAIRLEAD_TEST_TOKEN'] = 'of the agent';
  expect((await made.inspect(script('env'))).stdout).not.toContain('FAIRLEAD_TEST_TOKEN');
  delete process.env['FAIRLEAD_TEST_TOKEN'];
  expect((await made.inspect(script('exit 4', { allowExit: [0, 4] }))).code).toBe(4);
});

test('a command that fails says its last lines; a secret one says nothing', async () => {
  const { made } = await machine();
  const failed = await made.inspect(script('for i in $(seq 50); do echo line $i; done; exit 7')).catch((error: unknown) => error);
  expect(failed).toBeInstanceOf(CommandError);
  expect(failed).toMatchObject({ code: 7, output: Array.from({ length: 20 }, (_, n) => `line ${n + 31}`).join('\n') });
  const heard: string[] = [];
  const secret = made.run(script('echo s3cret; exit 1', { secret: true }), (line) => heard.push(line), signal());
  await expect(secret).rejects.toThrow(/^sh \(arguments hidden\): exit code 1$/);
  expect(heard).toEqual([]);
  await expect(made.inspect({ argv: ['no-such-program'], timeoutMs: 1_000 })).rejects.toThrow(/cannot be started.*ENOENT/);
});

test('time runs out, or the agent stops: the whole group is ended', async () => {
  const { root, made } = await machine();
  const pidFile = join(root, 'pid');
  const stubborn = `trap '' TERM; sleep 300 & echo $! > ${pidFile}; wait`;
  await expect(made.inspect(script(stubborn, { timeoutMs: 300 }))).rejects.toThrow(/not finished after 0.3 s/);
  const sleeper = Number(await readFile(pidFile, 'utf8'));
  await vi.waitFor(async () => expect(await identify(sleeper)).toBeUndefined());
  const stop = new AbortController();
  const running = made.run(script('echo started; sleep 300'), () => stop.abort(), stop.signal);
  await expect(running).rejects.toThrow(/the agent is stopping/);
  await expect(made.run(script('true'), () => undefined, stop.signal)).rejects.toThrow(/not started/);
});

test('what a killed agent left running for an operation is ended, and nothing else', async () => {
  const { made } = await machine();
  const pids: number[] = [];
  const id = `test-${process.pid}-${Date.now()}`;
  const stop = new AbortController();
  after(() => stop.abort());
  const start = (env: Record<string, string>) =>
    made
      .run(script('echo $$; sleep 300 & echo $!; wait', { env }), (line) => pids.push(Number(line)), stop.signal)
      .catch((error: unknown) => error);
  const [left, other] = [start({ [MARK]: id }), start({ [MARK]: `${id}-other` })];
  await vi.waitFor(() => expect(pids).toHaveLength(4));
  expect(await endLeftovers(id)).toBe(2);
  expect(await left).toBeInstanceOf(CommandError);
  const alive = await Promise.all(pids.map((pid) => identify(pid)));
  expect(alive.filter((one) => one !== undefined)).toHaveLength(2);
  stop.abort();
  await other;
});

test('files: written whole with their mode whatever the umask, copied with modes and links, removed', async () => {
  const { root, made } = await machine();
  const mask = process.umask(0o077);
  after(() => process.umask(mask));
  await made.write('/a/b/file', 'text', 0o664);
  expect((await lstat(join(root, 'a/b/file'))).mode & 0o7777).toBe(0o664);
  expect(await made.read('/a/b/file')).toBe('text');
  expect(await made.read(join(root, 'a/b/file')), 'a path below root is taken as it is').toBe('text');
  expect(await made.digest('/a/b/file')).toBe('982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1');
  expect([await made.read('/none'), await made.digest('/a'), await made.stat('/a/b/file/x')]).toEqual([undefined, undefined, undefined]);
  await symlink('../b/file', join(root, 'a/b/link'));
  await mkdir(join(root, 'a/empty'));
  await chmod(join(root, 'a/empty'), 0o1750);
  await made.copy('/a', '/copy');
  expect(await readlink(join(root, 'copy/b/link'))).toBe('../b/file');
  expect((await lstat(join(root, 'copy/empty'))).mode & 0o7777).toBe(0o1750);
  expect((await lstat(join(root, 'copy/b/file'))).mtimeMs).toBeCloseTo((await lstat(join(root, 'a/b/file'))).mtimeMs, -1);
  expect(await made.stat('/copy/b/link')).toMatchObject({ type: 'link' });
  await made.remove('/copy');
  await made.remove('/copy');
  expect(await made.list('/')).toEqual(['a']);
  await made.rename('/a/b/file', '/moved/here');
  expect(await made.read('/moved/here')).toBe('text');
});

test('facts of this machine', async () => {
  const facts = await (await localMachine()).facts();
  expect(facts).toMatchObject({ architecture: process.arch === 'x64' ? 'amd64' : 'arm64', os: { id: expect.stringMatching(/./) } });
  expect(facts.bootID).toMatch(/^[0-9a-f-]{36}$/);
  expect(facts.memoryBytes).toBeGreaterThan(100 << 20);
  expect(facts.cpus).toBeGreaterThan(0);
  const { made, root } = await machine();
  await mkdir(join(root, 'etc'));
  await writeFile(join(root, 'etc/os-release'), 'ID=debian\nVERSION_ID="12"\n');
  expect((await made.facts()).os).toEqual({ id: 'debian', version: '12' });
});
