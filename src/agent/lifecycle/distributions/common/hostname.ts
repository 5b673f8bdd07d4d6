import type { Step } from '../../operations/step.ts';
import { lines, step } from './run.ts';

/** Whether a hosts file names a host. */
export const namesHost = (hosts: string, hostname: string) =>
  lines(hosts).some((line) => (line.split('#')[0] ?? '').split(/\s+/).slice(1).includes(hostname));

/** The machine's own name resolves: a line in /etc/hosts where neither that file nor DNS knows it. */
export function hostnameStep(): Step {
  return step({
    name: 'hostname',
    check: async ({ machine, facts }) => {
      if (namesHost((await machine.read('/etc/hosts')) ?? '', facts.hostname)) return true;
      const found = await machine.inspect({ argv: ['getent', 'ahosts', facts.hostname], timeoutMs: 10_000 }).catch(() => undefined);
      return Boolean(found?.stdout.trim());
    },
    run: async ({ machine, facts }) => {
      const hosts = (await machine.read('/etc/hosts')) ?? '127.0.0.1 localhost\n';
      const info = await machine.stat('/etc/hosts');
      const line = `${facts.addresses[0] ?? '127.0.1.1'} ${facts.hostname}\n`;
      return [
        {
          kind: 'write',
          path: '/etc/hosts',
          content: `${hosts}${hosts.endsWith('\n') || !hosts ? '' : '\n'}${line}`,
          mode: (info?.mode ?? 0o644) & 0o777,
        },
      ];
    },
    verify: async ({ machine, facts }) => {
      if (!namesHost((await machine.read('/etc/hosts')) ?? '', facts.hostname))
        throw new Error(`/etc/hosts does not name ${facts.hostname}`);
    },
  });
}
