import type { Step } from '../../operations/step.ts';
import { lines, run, step } from './run.ts';

const HOSTS = '/etc/hosts';

/** Whether a hosts file names a host. */
export const namesHost = (hosts: string, hostname: string) =>
  lines(hosts).some((line) => (line.split('#')[0] ?? '').split(/\s+/).slice(1).includes(hostname));

/**
 * The machine's own name resolves: a line in /etc/hosts where neither that file nor DNS knows it. The line is appended by a command, because a file that the agent writes is watched as
 * a whole, and the rest of this one is not the agent's.
 */
export function hostnameStep(): Step {
  return step({
    name: 'hostname',
    check: async ({ machine, facts }) => {
      if (namesHost((await machine.read(HOSTS)) ?? '', facts.hostname)) return true;
      const found = await machine.inspect({ argv: ['getent', 'ahosts', facts.hostname], timeoutMs: 10_000 }).catch(() => undefined);
      return Boolean(found?.stdout.trim());
    },
    run: async ({ machine, facts }) => {
      const hosts = await machine.read(HOSTS);
      const before = hosts === undefined ? '127.0.0.1 localhost\n' : hosts === '' || hosts.endsWith('\n') ? '' : '\n';
      const input = `${before}${facts.addresses[0] ?? '127.0.1.1'} ${facts.hostname}\n`;
      return [{ kind: 'claim', paths: [HOSTS] }, run(['tee', '-a', HOSTS], { input }), run(['sync', HOSTS])];
    },
    verify: async ({ machine, facts }) => {
      if (!namesHost((await machine.read(HOSTS)) ?? '', facts.hostname)) throw new Error(`${HOSTS} does not name ${facts.hostname}`);
    },
  });
}
