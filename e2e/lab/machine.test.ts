import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { networkInterfaces } from 'node:os';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { diffState } from './machine/state.ts';
import { type Machine, noMachines, startMachine } from './machine.ts';
import { waitFor } from './wait.ts';

// The first time it makes the file system of the machine.
const impossible = noMachines();
const module = fileURLToPath(new URL('machine.ts', import.meta.url));

/** What machines of the process `pid` have on this computer, beside their folder. */
function leftovers(pid: number): string[] {
  const pattern = new RegExp(`fairlead-machine-${pid}-`);
  const hierarchies = ['/sys/fs/cgroup', ...readdirSync('/sys/fs/cgroup').map((entry) => `/sys/fs/cgroup/${entry}`)];
  const places = ['/run/netns', '/run/systemd/nspawn/propagate', ...hierarchies].filter((folder) => existsSync(folder));
  const found = places.flatMap((folder) => {
    try {
      return readdirSync(folder)
        .filter((entry) => pattern.test(entry))
        .map((entry) => `${folder}/${entry}`);
    } catch {
      // Not a folder.
      return [];
    }
  });
  const processes = readdirSync('/proc').filter((entry) => {
    try {
      return (
        /^\d+$/.test(entry) &&
        pattern.test(readFileSync(`/proc/${entry}/cmdline`, 'utf8').concat(readFileSync(`/proc/${entry}/cgroup`, 'utf8')))
      );
    } catch {
      return false;
    }
  });
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => pattern.test(line));
  return [...found, ...processes.map((entry) => `process ${entry}`), ...mounts];
}

const hasAddress = (address: string) =>
  Object.values(networkInterfaces()).some((entries) => entries?.some((entry) => entry.address === address));

describe.skipIf(impossible !== undefined)('a machine with systemd', () => {
  let machine: Machine;
  beforeAll(async () => {
    machine = await startMachine({
      name: 'edge-1',
      files: { '/etc/lab/before': { content: 'there before the first boot\n', mode: 0o600 } },
    });
  });
  afterAll(() => machine?.stop());

  test('runs commands, and takes and gives files', async () => {
    expect(await machine.run(['cat', '/proc/1/comm'])).toBe('systemd\n');
    expect(await machine.run(['hostname'])).toBe('edge-1\n');
    expect(await machine.exec(['sh', '-c', 'cat; echo $COLOUR >&2; exit 3'], { input: 'in', env: { COLOUR: 'red' } })).toEqual({
      code: 3,
      stdout: 'in',
      stderr: 'red\n',
    });
    await expect(machine.exec(['sleep', '100'], { timeout: 300 })).rejects.toThrow('took longer than 300 ms');
    expect((await machine.run(['ps', '-e', '-o', 'comm='])).split('\n')).not.toContain('sleep');
    expect(await machine.run(['stat', '-c', '%a', '/etc/lab/before'])).toBe('600\n');
    const bytes = Buffer.from(Array.from({ length: 70_000 }, (_, index) => index % 256));
    await machine.writeFile('/opt/new/bytes', bytes, 0o640);
    expect((await machine.readFile('/opt/new/bytes')).equals(bytes)).toBe(true);
    await machine.copyIn(process.execPath, '/opt/new/node', 0o755);
    expect(await machine.run(['/opt/new/node', '--version'])).toBe(`${process.version}\n`);
    await expect(machine.run(['cat', '/nowhere'])).rejects.toThrow('No such file');
    await machine.run(['rm', '-r', '/opt/new']);
  });

  test('reaches this computer by its cable, and is reached', async () => {
    const server = createServer((request, response) => response.end(`to ${request.socket.remoteAddress}`)).listen(0, '0.0.0.0');
    await once(server, 'listening');
    try {
      const port = (server.address() as AddressInfo).port;
      const script = `exec 3<>/dev/tcp/${machine.host}/${port}; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3`;
      expect(await machine.run(['bash', '-c', script])).toContain(`to ${machine.address}`);
    } finally {
      server.close();
    }
  });

  test('a reboot from inside gives a new boot id and keeps files and settings that are kept', async () => {
    const before = await machine.bootId();
    await machine.writeFile('/etc/sysctl.d/90-lab.conf', 'net.ipv4.ip_forward=1\n');
    await machine.run(['touch', '/run/gone', '/root/kept']);
    const boots = machine.boots();
    // Nobody calls machine.reboot(): it is noticed.
    await machine.exec(['systemctl', 'reboot', '--no-block']);
    await waitFor(() => machine.boots() > boots && machine.running(), { what: 'the machine to come back', timeout: 60_000 });
    await machine.settled();
    expect(await machine.bootId()).not.toBe(before);
    expect(await machine.run(['sh', '-c', 'ls /root/kept; sysctl -n net.ipv4.ip_forward; test -e /run/gone || echo gone'])).toBe(
      '/root/kept\n1\ngone\n',
    );
    await machine.run(['mkdir', '/sys/fs/cgroup/memory/lab']).then(
      () => machine.run(['rmdir', '/sys/fs/cgroup/memory/lab']),
      async () => expect(await machine.run(['sh', '-c', 'ls /sys/fs/cgroup/cgroup.controllers'])).toContain('controllers'),
    );
  });

  test('a power cut ends everything, and its files are there after the next start', async () => {
    await machine.writeFile('/root/written', 'before the cut');
    const [command, args] = machine.command(['sleep', '1000']);
    const sleeper = spawn(command, args, { stdio: 'ignore' });
    const ended = once(sleeper, 'exit');
    await machine.kill();
    await ended;
    expect(machine.running()).toBe(false);
    await expect(machine.exec(['true'])).rejects.toThrow('edge-1 is off');
    await machine.start();
    expect((await machine.readFile('/root/written')).toString()).toBe('before the cut');
  });

  test('the comparison of states names what was added, changed and removed, and only that', async () => {
    const before = await machine.snapshotState();
    await machine.run([
      'bash',
      '-c',
      'ip link add cni0 type bridge; echo 1 > /etc/left; echo x >> /etc/issue; rm /etc/debian_version; sysctl -q -w net.ipv4.conf.all.route_localnet=1; iptables -A INPUT -s 10.9.8.7 -j DROP',
    ]);
    await machine.writeFile('/etc/systemd/system/lab.service', '[Service]\nExecStart=/bin/sleep 1000\n');
    await machine.run(['bash', '-c', 'mkdir /opt/held && mount -t tmpfs none /opt/held && systemctl daemon-reload && systemctl start lab']);
    const lines = diffState(before, await machine.snapshotState());
    for (const part of [
      /^files: \/etc\/left: added: f 644 0:0 +sha256 4355a46b/,
      /^files: \/etc\/issue: changed: /,
      /^files: \/etc\/debian_version: removed/,
      /^files: \/etc\/systemd\/system\/lab.service: added/,
      /^unitFiles: lab.service: added: static/,
      /^units: lab.service: added: loaded active running/,
      /^interfaces: cni0: added/,
      /^mounts: \/opt\/held: added: tmpfs none/,
      /^sysctls: net.ipv4.conf.all.route_localnet: changed: 0 -> 1/,
      /^rules: .*10\.9\.8\.7/,
      /^processes: sleep: added/,
    ]) {
      expect(
        lines.some((line) => part.test(line)),
        `${part} in:\n${lines.join('\n')}`,
      ).toBe(true);
    }
    await machine.run([
      ...['bash', '-c'],
      'systemctl stop lab; rm /etc/systemd/system/lab.service /etc/left; systemctl daemon-reload; umount /opt/held; rmdir /opt/held; ip link del cni0; sysctl -q -w net.ipv4.conf.all.route_localnet=0; nft flush ruleset; sed -i "/^x$/d" /etc/issue; echo 12 >/etc/debian_version',
    ]);
    const rest = diffState(before, await machine.snapshotState()).filter((line) => !line.startsWith('files: /etc/debian_version: '));
    expect(rest).toEqual([]);
  });

  test('two at once, and nothing is left of one that was stopped', async () => {
    const second = await startMachine({ name: 'edge-1', without: ['containerd', 'runc'] });
    try {
      expect(await second.bootId()).not.toBe(await machine.bootId());
      expect(second.address).not.toBe(machine.address);
      expect((await second.exec(['test', '-e', '/usr/bin/containerd'])).code).toBe(1);
      expect((await machine.exec(['test', '-e', '/usr/bin/containerd'])).code).toBe(0);
    } finally {
      await second.stop();
    }
    await machine.run(['true']);
    await machine.stop();
    for (const one of [machine, second]) {
      expect(existsSync(dirname(one.root))).toBe(false);
      expect(hasAddress(one.host)).toBe(false);
    }
    // A process that was killed is seen until somebody has taken note of its end.
    await waitFor(() => leftovers(process.pid).length === 0 || Promise.reject(new Error(leftovers(process.pid).join(', '))), {
      what: 'nothing of the machines to be left',
      timeout: 20_000,
    });
  });

  test('nothing is left when the process that started it is killed, once the next machine starts', async () => {
    const code = `import { startMachine } from ${JSON.stringify(module)};
      const machine = await startMachine({ name: 'orphan' });
      console.log(JSON.stringify([machine.host, machine.root]));
      setInterval(() => undefined, 1000);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', code], { stdio: ['ignore', 'pipe', 'inherit'] });
    const pid = child.pid ?? 0;
    const ended = once(child, 'exit');
    let text = '';
    child.stdout.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    try {
      await waitFor(() => text.endsWith('\n'), { what: 'the machine of the other process', timeout: 60_000 });
    } finally {
      child.kill('SIGKILL');
      await ended;
    }
    const [host, root] = JSON.parse(text) as [string, string];
    await waitFor(() => leftovers(pid).every((line) => !line.startsWith('process')), { what: 'its processes to end' });
    const next = await startMachine();
    await next.stop();
    expect(leftovers(pid)).toEqual([]);
    expect(existsSync(root)).toBe(false);
    expect(hasAddress(host)).toBe(false);
  });
});

test('this computer can run machines', (context) => {
  if (impossible !== undefined) context.skip(impossible);
  expect(impossible).toBeUndefined();
});
