import { mkdir, mkdtemp, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { localMachine } from '../../../../src/agent/lifecycle/machine/local-machine.ts';
import { identify, send } from '../../../../src/agent/lifecycle/machine/processes.ts';
import { readUnit } from '../../../../src/agent/lifecycle/machine/unit-file.ts';
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

test('units outlive the agent; the next one finds them, and starts what a reboot has ended', async () => {
  const { root, made, start, pids } = await world('Restart=always', undefined);
  await writeFile(join(root, 'etc/systemd/system/app.service.d/10.conf'), `[Service]\n${program(root)}\n`);
  await made.changeService('app', 'enable', signal());
  await made.changeService('app', 'start', signal());
  made.close();
  const second = await start();
  await second.resumeServices();
  expect(await second.services.active('app')).toBe(true);
  expect(await pids()).toHaveLength(1);
  const [pid = 0] = await pids();
  second.close();
  // As after a reboot: the process and /run are gone.
  send(pid, 'SIGKILL');
  await rm(dirname(join(root, 'run/fairlead-agent/units')), { recursive: true });
  const third = await start();
  await third.resumeServices();
  expect(await third.services.active('app')).toBe(true);
  expect(await pids()).toHaveLength(2);
  await third.changeService('app', 'stop', signal());
  third.close();
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
