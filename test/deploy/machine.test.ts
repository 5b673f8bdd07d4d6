import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { joinMachine } from '../../kubectl-plugins/lib/join-text.ts';
import { parseOptions } from '../../src/agent/options.ts';
import { deploy } from './kustomize.ts';

const folder = join(deploy, 'machine');
const read = (name: string) => readFileSync(join(folder, name), 'utf8');
const unit = read('fairlead-agent.service');
const setting = (name: string) => new RegExp(`^${name}=(.*)$`, 'm').exec(unit)?.[1];
/** The flags of every FAIRLEAD_AGENT_FLAGS line of a text. */
const flagLines = (text: string) => [...text.matchAll(/^\s*FAIRLEAD_AGENT_FLAGS=(.*)$/gm)].map(([, flags = '']) => flags.split(' '));

test.each(['agent.env.example', 'README.md'])(
  'the flags in %s are flags of the agent, and keep its state where the unit has it',
  (name) => {
    const own = setting('ExecStart')?.split(' ').slice(1) ?? [];
    expect(own.at(-1)).toBe('$FAIRLEAD_AGENT_FLAGS');
    const lines = flagLines(read(name));
    expect(lines).toHaveLength(1);
    for (const flags of lines) {
      const options = parseOptions([...own.slice(0, -1).map((word) => word.replace('%H', 'machine')), ...flags], {});
      if ('print' in options) throw new Error('prints');
      expect(options).toMatchObject({ bare: true, identity: 'machine', warnings: [], stateDir: `/var/lib/${setting('StateDirectory')}` });
      expect(options.bootstrap.file).toBe('/etc/fairlead-agent/bootstrap-token');
    }
  },
);

test('the unit reads the file that it waits for, stops longer than the agent does, and comes back', () => {
  expect(setting('EnvironmentFile')).toBe(setting('ConditionPathExists'));
  const options = parseOptions(['--parent-url=https://parent', '--bare'], {});
  if ('print' in options) throw new Error('prints');
  expect(Number(setting('TimeoutStopSec')) * 1_000).toBeGreaterThan(options.shutdownTimeoutMs);
  expect([setting('Restart'), setting('StartLimitIntervalSec'), setting('KillMode')]).toEqual(['always', '0', 'mixed']);
});

test('no setting of the unit gives the agent a file system, capabilities or system calls of its own: what it does must hold for the machine', () => {
  const forbidden =
    /^(Private(Tmp|Devices|Network|Users|Mounts)|Protect\w+|ReadOnlyPaths|ReadWritePaths|InaccessiblePaths|TemporaryFileSystem|BindPaths|RootDirectory|MountFlags|CapabilityBoundingSet|AmbientCapabilities|NoNewPrivileges|SystemCallFilter|RestrictNamespaces|RestrictAddressFamilies|RestrictSUIDSGID|DynamicUser|User|MemoryMax|TasksMax)=/m;
  expect(forbidden.exec(unit)?.[0]).toBeUndefined();
});

test('the package holds what is named, readable by whom it should be', () => {
  type Content = { src?: string; dst: string; type?: string; file_info: { mode: number } };
  const { contents, scripts } = parse(read('nfpm.yaml')) as { contents: Content[]; scripts: Record<string, string> };
  for (const { src } of contents) if (src && !src.startsWith('$')) expect([src, existsSync(join(deploy, '..', src))]).toEqual([src, true]);
  for (const script of Object.values(scripts)) execFileSync('sh', ['-n', join(deploy, '..', script)]);
  const modes = Object.fromEntries(contents.map(({ dst, file_info }) => [dst, file_info.mode]));
  // YAML 1.2 reads 0700 as a decimal number, nfpm's YAML 1.1 as an octal one.
  expect(modes['/etc/fairlead-agent']).toBe(700);
  expect(modes['/var/lib/fairlead-agent']).toBe(700);
  expect(contents.find(({ dst }) => dst === '/usr/bin/fairlead-agent')?.src).toMatch(/^\$\{PACKAGE_EXECUTABLE\}$/);
  expect(setting('ExecStart')).toMatch(/^\/usr\/bin\/fairlead-agent /);
  expect(
    Object.values(scripts)
      .map((script) => script.split('/').at(-1))
      .sort(),
  ).toEqual(readdirSync(join(folder, 'scripts')).sort());
});

test('the commands of the README give secrets to nobody but root', () => {
  for (const line of read('README.md').split('\n')) {
    if (/install .*\/etc\/fairlead-agent/.test(line)) expect(line).toMatch(/-m 0[67]00 /);
  }
});

test('the README shows what kubectl infra join-command --machine prints', () => {
  const printed = joinMachine({
    parent: {
      url: 'https://parent.example.com:6443',
      ca: '-----BEGIN CERTIFICATE-----\n...\n-----END CERTIFICATE-----\n',
      serverName: undefined,
      notes: [],
    },
    token: '<TOKEN>',
    clusterName: 'edge-1',
    clusterType: 'EdgeCluster',
  });
  const shown = read('README.md')
    .split('\n')
    .map((line) => line.replace(/^ {3}/, ''));
  expect(shown.join('\n')).toContain(printed.trimEnd());
});
