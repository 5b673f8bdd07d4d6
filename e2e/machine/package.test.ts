import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { agentPackage } from '../lab/agent-package.ts';
import { diffState, type MachineState } from '../lab/machine/state.ts';
import { type Machine, startMachine } from '../lab/machine.ts';
import { waitFor } from '../lab/wait.ts';
import { onMachines } from './on-machines.ts';

const UNIT = 'fairlead-agent.service';
const STATE = '/var/lib/fairlead-agent';
const CONFIG = '/etc/fairlead-agent';

describe('the .deb of the agent on a machine without Node.js', () => {
  let deb: string;
  let machine: Machine;
  let pristine: MachineState;

  onMachines(async (teardown) => {
    const out = mkdtempSync(join(tmpdir(), 'fairlead-package-'));
    teardown.defer(() => rmSync(out, { recursive: true, force: true }));
    deb = await agentPackage(out);
    machine = await startMachine({ name: 'edge-1' });
    teardown.defer(machine.stop);
    pristine = await machine.snapshotState();
    await machine.copyIn(deb, '/srv/fairlead-agent.deb');
  });

  const property = async (name: string) => (await machine.run(['systemctl', 'show', '-p', name, '--value', UNIT])).trim();
  const active = async () => (await machine.exec(['systemctl', 'is-active', UNIT])).stdout.trim();
  const mode = async (path: string) => (await machine.run(['stat', '-c', '%a %U:%G', path])).trim();

  async function configure(): Promise<void> {
    await machine.run(['install', '-d', '-m', '0700', CONFIG]);
    await machine.writeFile(`${CONFIG}/bootstrap-token`, 'abcdef.0123456789abcdef\n', 0o600);
    // Nobody answers there: the agent goes on trying.
    const flags = `--parent-url=https://${machine.host}:1 --bootstrap-token-file=${CONFIG}/bootstrap-token --bare --cluster-name=edge-1`;
    await machine.writeFile(`${CONFIG}/agent.env`, `FAIRLEAD_AGENT_FLAGS=${flags}\n`, 0o600);
  }

  test('is installed, enabled and not started, because it is not configured', async () => {
    expect((await machine.exec(['sh', '-c', 'command -v node'])).code).not.toBe(0);
    const said = await machine.run(['dpkg', '-i', '/srv/fairlead-agent.deb'], { timeout: 120_000 });
    expect(said).toContain('kubectl infra join-command --machine');
    expect(await machine.run(['/usr/bin/fairlead-agent', '--version'])).toMatch(/^fairlead-agent v\d+\.\d+\.\d+/);
    expect((await machine.run(['systemctl', 'is-enabled', UNIT])).trim()).toBe('enabled');
    expect(await active()).toBe('inactive');
    expect(await mode(CONFIG)).toBe('700 root:root');
    expect(await mode(STATE)).toBe('700 root:root');
    expect((await machine.exec(['systemd-analyze', 'verify', UNIT])).stderr).not.toContain(UNIT);
    expect(statSync(deb).size).toBeLessThan(60 * 2 ** 20);
    expect(Number(await machine.run(['stat', '-c', '%s', '/usr/bin/fairlead-agent']))).toBeLessThan(140 * 2 ** 20);
  });

  test('runs once it is configured, comes back when it is killed and after a restart of the machine', async () => {
    await configure();
    await machine.run(['systemctl', 'restart', UNIT]);
    expect(await active()).toBe('active');
    const first = await property('MainPID');
    await machine.run(['kill', '-9', first]);
    await waitFor(async () => (await active()) === 'active' && (await property('MainPID')) !== first, {
      what: 'systemd to start the agent again',
      timeout: 60_000,
    });
    await machine.reboot();
    await waitFor(async () => (await active()) === 'active', { what: 'the agent to start with the machine', timeout: 60_000 });
    // It sees the file system that everybody sees.
    const pid = await property('MainPID');
    expect(await machine.run(['readlink', `/proc/${pid}/ns/mnt`])).toBe(await machine.run(['readlink', '/proc/1/ns/mnt']));
    const log = await machine.run(['journalctl', '--no-pager', '-o', 'cat', '-u', UNIT]);
    expect(log).not.toContain('abcdef.0123456789abcdef');
  });

  test('the same package installed again restarts it and leaves configuration and choice alone', async () => {
    const first = await property('MainPID');
    await machine.run(['systemctl', 'disable', UNIT]);
    await machine.run(['dpkg', '-i', '/srv/fairlead-agent.deb'], { timeout: 120_000 });
    expect(await active()).toBe('active');
    expect(await property('MainPID')).not.toBe(first);
    expect((await machine.exec(['systemctl', 'is-enabled', UNIT])).stdout.trim()).toBe('disabled');
    expect(await machine.run(['cat', `${CONFIG}/agent.env`])).toContain('--bare');
  });

  test('removed, it stops and keeps its state; purged beside a cluster, it keeps how the machine was before', async () => {
    await machine.run(['dpkg', '-r', 'fairlead-agent']);
    expect((await machine.exec(['systemctl', 'is-active', UNIT])).stdout.trim()).not.toBe('active');
    expect((await machine.exec(['test', '-e', '/usr/bin/fairlead-agent'])).code).toBe(1);
    expect((await machine.exec(['test', '-e', `${CONFIG}/agent.env`])).code).toBe(0);
    await machine.writeFile(`${STATE}/lifecycle/baseline/index`, 'as if there were a cluster\n', 0o600);
    await machine.run(['dpkg', '-P', 'fairlead-agent']);
    expect((await machine.exec(['test', '-e', CONFIG])).code).toBe(1);
    expect((await machine.run(['ls', STATE])).trim()).toBe('lifecycle');
  });

  test('purged without a cluster, it leaves nothing', async () => {
    await machine.run(['rm', '-rf', STATE]);
    await machine.run(['dpkg', '-i', '/srv/fairlead-agent.deb'], { timeout: 120_000 });
    await configure();
    await machine.run(['systemctl', 'start', UNIT]);
    await machine.run(['dpkg', '-P', 'fairlead-agent']);
    await machine.run(['rm', '/srv/fairlead-agent.deb']);
    await machine.run(['systemctl', 'reset-failed']);
    const own = diffState(pristine, await machine.snapshotState()).filter((line) => line.includes('fairlead'));
    expect(own).toEqual([]);
  });
});
