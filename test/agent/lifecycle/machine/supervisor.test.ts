import { mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { runCommand } from '../../../../src/agent/lifecycle/machine/commands.ts';
import { placedBelow } from '../../../../src/agent/lifecycle/machine/files.ts';
import { localMachine } from '../../../../src/agent/lifecycle/machine/local-machine.ts';
import { identify, send } from '../../../../src/agent/lifecycle/machine/processes.ts';
import { supervisor } from '../../../../src/agent/lifecycle/machine/supervisor.ts';
import { readUnit } from '../../../../src/agent/lifecycle/machine/unit-file.ts';
import { unitFolder } from '../../../../src/agent/lifecycle/machine/unit-folder.ts';
import { cleanUp } from '../../../support/clean-up.ts';

const { after, signal } = cleanUp();

/** A machine without systemd, and a unit `app` that writes its pid and words, and waits. */
async function world(service: string, dropIn?: string) {
  const root = await mkdtemp(join(tmpdir(), 'fairlead-units-'));
  const errors: unknown[] = [];
  const start = () => localMachine({ root, path: '/usr/bin:/bin', init: 'own', onError: (error) => errors.push(error) });
  const made = await start();
  const units = join(root, 'etc/systemd/system');
  await mkdir(join(units, 'app.service.d'), { recursive: true });
  await writeFile(join(units, 'app.service'), `[Unit]\nDescription=x\n[Service]\n${service}\n[Install]\nWantedBy=multi-user.target\n`);
  if (dropIn !== undefined) await writeFile(join(units, 'app.service.d/10.conf'), dropIn);
  after(async () => {
    await (await start()).changeService('app', 'stop', new AbortController().signal).catch(() => undefined);
    await rm(root, { recursive: true, force: true });
  });
  const pids = async () =>
    (await readFile(join(root, 'pids'), 'utf8').catch(() => ''))
      .trim()
      .split('\n')
      .filter((pid) => pid !== '')
      .map(Number);
  return { root, made, start, pids, errors };
}
/** What runs; a reboot empties it. */
const RUN = 'run/fairlead-agent/units';
const program = (root: string, then = 'exec sleep 300') => `ExecStart=/bin/sh -c 'echo $$$$ >> ${root}/pids; echo said; ${then}'`;

test('units without systemd: started, enabled, restarted when they die, stopped', async () => {
  const { root, made, pids } = await world('Restart=always\nRestartSec=100ms', undefined);
  await writeFile(join(root, 'etc/systemd/system/app.service.d/10.conf'), `[Service]\n${program(root)}\n`);
  expect([await made.services.exists('app'), await made.services.exists('none')]).toEqual([true, false]);
  await made.changeService('app', 'enable', signal());
  expect(await readlink(join(root, 'etc/systemd/system/multi-user.target.wants/app.service'))).toBe('/etc/systemd/system/app.service');
  expect(await made.services.enabled('app')).toBe(true);
  await made.changeService('app', 'start', signal());
  expect(await made.services.active('app')).toBe(true);
  await vi.waitFor(async () => expect(await made.services.lastLog('app', 5)).toBe('said'));
  const [first = 0] = await pids();
  send(first, 'SIGKILL');
  await vi.waitFor(async () => expect(await pids()).toHaveLength(2), 20_000);
  await vi.waitFor(async () => expect(await made.services.active('app')).toBe(true));
  await made.changeService('app', 'restart', signal());
  expect(await pids()).toHaveLength(3);
  await made.changeService('app', 'stop', signal());
  expect(await made.services.active('app')).toBe(false);
  await made.changeService('app', 'disable', signal());
  expect(await made.services.enabled('app')).toBe(false);
  for (const pid of await pids()) expect(await identify(pid)).toBeUndefined();
  made.close();
});

test('a unit that ends right away has not started, and its log says why', async () => {
  const { made } = await world('ExecStart=/bin/sh -c "echo cannot >&2; exit 3"');
  await expect(made.changeService('app', 'start', signal())).rejects.toThrow(/ended right after its start: cannot/);
  await expect(made.changeService('none', 'start', signal())).rejects.toThrow(/there is no unit none.service/);
  made.close();
});

test('a link that a package had made to the same unit by another path was replaced, and not put back by a delete', async () => {
  const { root, made } = await world('ExecStart=/bin/true');
  await symlink('usr/lib', join(root, 'lib'));
  await mkdir(join(root, 'usr/lib/systemd/system'), { recursive: true });
  await writeFile(join(root, 'usr/lib/systemd/system/other.service'), '[Service]\nExecStart=/bin/true\n');
  const link = join(root, 'etc/systemd/system/multi-user.target.wants/other.service');
  await mkdir(dirname(link));
  await symlink('/lib/systemd/system/other.service', link);
  await made.changeService('other', 'enable', signal());
  expect(await readlink(link)).toBe('/lib/systemd/system/other.service');
  // One that leads nowhere is not what was meant.
  await rm(link);
  await symlink('/nowhere/other.service', link);
  await made.changeService('other', 'enable', signal());
  expect(await readlink(link)).toBe('/usr/lib/systemd/system/other.service');
  made.close();
});

/** A unit `app` that is enabled and runs. */
async function running() {
  const box = await world('Restart=always\nRestartSec=100ms');
  await writeFile(join(box.root, 'etc/systemd/system/app.service.d/10.conf'), `[Service]\n${program(box.root)}\n`);
  await box.made.changeService('app', 'enable', signal());
  await box.made.changeService('app', 'start', signal());
  const next = async () => {
    const agent = await box.start();
    after(() => agent.close());
    await agent.resumeServices();
    return agent;
  };
  return { ...box, next };
}

test('units outlive the agent; the next one finds them, and starts what a reboot has ended', async () => {
  const { root, made, next, pids } = await running();
  made.close();
  const second = await next();
  expect(await second.services.active('app')).toBe(true);
  expect(await pids()).toHaveLength(1);
  const [pid = 0] = await pids();
  second.close();
  // As after a reboot: the process and /run are gone.
  send(pid, 'SIGKILL');
  await rm(dirname(join(root, RUN)), { recursive: true });
  const third = await next();
  expect(await third.services.active('app')).toBe(true);
  expect(await pids()).toHaveLength(2);
  await third.changeService('app', 'stop', signal());
});

test('a unit that an operation had stopped was started by the next agent, in the middle of that operation', async () => {
  const { made, next, pids } = await running();
  await made.changeService('app', 'stop', signal());
  made.close();
  const second = await next();
  expect(await second.services.active('app')).toBe(false);
  expect(await second.services.enabled('app')).toBe(true);
  expect(await pids()).toHaveLength(1);
});

test('an agent that died between start and record left a unit of which the next one started a second', async () => {
  const { root, made, next, pids } = await running();
  made.close();
  await rm(join(root, RUN), { recursive: true });
  const second = await next();
  expect(await second.services.active('app')).toBe(true);
  await second.changeService('app', 'start', signal());
  expect(await pids()).toHaveLength(1);
  await second.changeService('app', 'stop', signal());
  const [pid = 0] = await pids();
  expect(await identify(pid)).toBeUndefined();
});

test('one that died while no agent was there runs again; one that ended right after a reboot was given up', async () => {
  const { root, made, next, pids } = await running();
  made.close();
  for (const pid of await pids()) send(pid, 'SIGKILL');
  // Whatever it needs is not there yet.
  const needed = `[ -e ${root}/needed ] || exit 1; exec sleep 300`;
  await writeFile(join(root, 'etc/systemd/system/app.service.d/10.conf'), `[Service]\n${program(root, needed)}\n`);
  const second = await next();
  await vi.waitFor(async () => expect((await pids()).length).toBeGreaterThan(2), 20_000);
  await writeFile(join(root, 'needed'), '');
  await vi.waitFor(async () => expect(await second.services.active('app')).toBe(true), 20_000);
  const last = (await pids()).at(-1) ?? 0;
  await vi.waitFor(async () => expect(await identify(last)).toBeDefined());
  await second.changeService('app', 'stop', signal());
  expect(await identify((await pids()).at(-1) ?? 0)).toBeUndefined();
});

test('started by an operation while it is started again: one runs, not two', async () => {
  const { root, made, pids } = await running();
  const unit = join(root, 'etc/systemd/system/app.service.d/20.conf');
  await writeFile(unit, `[Service]\nExecStartPre=/bin/sh -c 'echo >> ${root}/preparing; sleep 0.5'\n`);
  for (const pid of await pids()) send(pid, 'SIGKILL');
  await vi.waitFor(() => stat(join(root, 'preparing')), 20_000);
  await made.changeService('app', 'start', signal());
  // It runs before it has written its pid.
  await vi.waitFor(async () => {
    const alive = await Promise.all((await pids()).map(identify));
    expect(alive.filter((one) => one !== undefined)).toHaveLength(1);
  });
  for (const pid of await pids()) send(pid, 'SIGKILL');
  await vi.waitFor(async () => expect((await readFile(join(root, 'preparing'), 'utf8')).length).toBe(2), 20_000);
  await made.changeService('app', 'stop', signal());
  expect(await made.services.active('app')).toBe(false);
  for (const pid of await pids()) expect(await identify(pid)).toBeUndefined();
});

test('a log does not grow without end, and the unit goes on writing into it', async () => {
  const { root } = await world(`Restart=no\nExecStart=/bin/sh -c 'while :; do echo 0123456789; sleep 0.01; done'`);
  const at = placedBelow(root);
  const logDir = join(root, 'log');
  const services = supervisor({
    units: unitFolder(at),
    ...{ keepDir: at('/keep'), runDir: at('/run'), logDir, path: '/usr/bin:/bin', startMs: 50, largestLog: 300, trimMs: 20 },
    run: (command, until) => runCommand(command, () => undefined, until, { path: '/usr/bin:/bin' }),
    onError: (error) => expect.unreachable(String(error)),
  });
  after(() => services.close());
  await services.change('app', 'start', signal());
  await vi.waitFor(async () => expect(await readdir(logDir)).toEqual(['app.service.log', 'app.service.log.1']), 20_000);
  const { mtimeMs } = await stat(join(logDir, 'app.service.log.1'));
  await vi.waitFor(async () => expect((await stat(join(logDir, 'app.service.log.1'))).mtimeMs).toBeGreaterThan(mtimeMs), 20_000);
  await vi.waitFor(async () => expect(await services.lastLog('app', 1)).toBe('0123456789'));
  await services.change('app', 'stop', signal());
});

test("the kubelet's unit with kubeadm's drop-in reads as systemd reads it", async () => {
  const unit = '[Service]\nExecStart=/usr/bin/kubelet\nRestart=always\nRestartSec=10\n[Install]\nWantedBy=multi-user.target\n';
  const dropIn = `[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/b.conf --kubeconfig=/etc/k.conf" X=1
# a note
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_KUBEADM_ARGS \\
  $NOTHING --node=\${X}-a "two words" '$$5'
KillMode=process
`;
  const files: Record<string, string> = { '/var/lib/kubelet/kubeadm-flags.env': 'KUBELET_KUBEADM_ARGS="--a=b --c=d"\n' };
  expect(await readUnit([unit, dropIn], async (path) => files[path])).toEqual({
    start: [
      '/usr/bin/kubelet',
      '--bootstrap-kubeconfig=/etc/b.conf',
      '--kubeconfig=/etc/k.conf',
      '--a=b',
      '--c=d',
      '--node=1-a',
      'two words',
      '$5',
    ],
    before: [],
    environment: {
      KUBELET_KUBECONFIG_ARGS: '--bootstrap-kubeconfig=/etc/b.conf --kubeconfig=/etc/k.conf',
      X: '1',
      KUBELET_KUBEADM_ARGS: '--a=b --c=d',
    },
    workingDirectory: '/',
    restart: 'always',
    restartDelayMs: 10_000,
    killGroup: false,
    wantedBy: ['multi-user.target'],
  });
  await expect(readUnit(['[Service]\nEnvironmentFile=/none\nExecStart=/x\n'], async () => undefined)).rejects.toThrow(
    /EnvironmentFile \/none/,
  );
  await expect(readUnit(['[Service]\n'], async () => undefined)).rejects.toThrow(/no ExecStart/);
});
