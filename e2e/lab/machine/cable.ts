import { execFileSync } from 'node:child_process';

/**
 * The ends of a machine's cable: two addresses of 192.0.2.0/24 that stay the same over its boots. `inside6`: a second address of the machine, of 2001:db8::/32 (RFC 3849, never
 * routed), which leads nowhere.
 */
export type Ends = { host: string; inside: string; inside6?: string };

export type Cable = {
  /** What nspawn joins: /run/netns/NAME. */
  path: string;
  /** Takes away both ends with everything that was made in the namespace. Idempotent. */
  unplug(): void;
};

function run(command: string, ...args: string[]): void {
  execFileSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
}
const ip = (...args: string[]) => run('ip', ...args);

function quietly(work: () => void): void {
  try {
    work();
  } catch {
    // It is not there.
  }
}

/**
 * A network namespace with one interface, host0, whose other end is here. Each boot gets a new one, because addresses, bridges and rules do
 * not outlive a boot.
 */
export function plugCable(name: string, { host, inside, inside6 }: Ends): Cable {
  const near = `flm${host.slice('192.0.2.'.length)}`;
  const unplug = () => {
    quietly(() => ip('link', 'del', near));
    quietly(() => ip('netns', 'del', name));
  };
  unplug();
  try {
    ip('netns', 'add', name);
    ip('link', 'add', near, 'type', 'veth', 'peer', 'name', 'host0', 'netns', name);
    ip('addr', 'add', `${host}/30`, 'dev', near);
    ip('link', 'set', near, 'up');
    ip('-n', name, 'link', 'set', 'lo', 'up');
    ip('-n', name, 'addr', 'add', `${inside}/30`, 'dev', 'host0');
    if (inside6 !== undefined) ip('-n', name, 'addr', 'add', `${inside6}/64`, 'dev', 'host0', 'nodad');
    ip('-n', name, 'link', 'set', 'host0', 'up');
    ip('-n', name, 'route', 'add', 'default', 'via', host);
  } catch (error) {
    unplug();
    throw error;
  }
  return { path: `/run/netns/${name}`, unplug };
}
