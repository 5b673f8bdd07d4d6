import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { undoAtExit } from './leftovers.ts';

/** A cable between the machine and a network namespace: two addresses of 192.0.2.0/24 (RFC 5737, never routed). */
export type Link = {
  /** The machine's end; servers that listen on all addresses are reached here from inside. */
  host: string;
  /** The namespace's end. */
  inside: string;
  /** From now on packets are lost without a sign: `out` of the namespace, `in` to it, or both (default). Nobody gets a FIN, a RST or an ICMP. */
  cut(direction?: 'in' | 'out' | 'both'): void;
  restore(): void;
  /** Delay and loss in both directions, in the words of `tc qdisc ... netem`: `['delay', '100ms', 'loss', '1%']`. Throws when the kernel has no netem. */
  impair(netem: readonly string[]): void;
  /** So many of a hundred packets are lost by chance, in both directions; 0 ends it. Needs iptables in place of netem. */
  lose(percent: number): void;
};

/** Processes started in it reach the machine only by its links. */
export type NetworkNamespace = {
  name: string;
  /** The command that runs `command` inside; the pid is that of `command`. */
  command(command: string, args: readonly string[]): [string, string[]];
  addLink(): Link;
  /** Packets for `network` (CIDR) leave by `link`. */
  route(network: string, link: Link): void;
  /** Idempotent. End its processes first. */
  release(): void;
};

const marks = () => join(tmpdir(), `fairlead-links-${process.getuid?.() ?? 0}`);
// No interface has it: what is sent there is received by nobody.
const NOBODY = '02:fa:17:1e:ad:00';

function run(command: string, ...args: string[]): string {
  return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}
const ip = (...args: string[]) => run('ip', ...args);

function succeeds(work: () => void): boolean {
  try {
    work();
    return true;
  } catch {
    return false;
  }
}

let serial = 0;

/** Why there can be no network namespaces here; undefined when there can. */
export function noNetworkNamespaces(): string | undefined {
  const name = `fl-probe-${process.pid}`;
  try {
    ip('netns', 'add', name);
  } catch (error) {
    return `network namespaces need root (CAP_SYS_ADMIN, CAP_NET_ADMIN) and the command "ip": ${error instanceof Error ? error.message.split('\n')[0] : ''}`;
  }
  try {
    ip('-n', name, 'link', 'add', 'probe0', 'type', 'veth', 'peer', 'name', 'probe1');
    return undefined;
  } catch {
    return 'this kernel has no veth';
  } finally {
    ip('netns', 'del', name);
  }
}

/** Why a command does not work inside a new network namespace: `why`, or that there are none; undefined when it does. */
function refusedInside(command: readonly string[], why: string): string | undefined {
  const reason = noNetworkNamespaces();
  if (reason !== undefined) return reason;
  const name = `fl-try-${process.pid}`;
  ip('netns', 'add', name);
  try {
    ip('netns', 'exec', name, ...command);
    return undefined;
  } catch {
    return why;
  } finally {
    ip('netns', 'del', name);
  }
}

/** Why delay cannot be made here; undefined when it can. */
export const noNetem = (): string | undefined =>
  refusedInside(
    ['tc', 'qdisc', 'add', 'dev', 'lo', 'root', 'netem', 'delay', '1ms'],
    'this kernel has no netem (sch_netem), or there is no command "tc"',
  );

/** Why packets cannot be lost by chance here; undefined when they can. */
export const noLoss = (): string | undefined =>
  refusedInside(
    ['iptables', ...lossRule('-A', 'INPUT', 'lo', 1)],
    'there is no command "iptables", or the kernel has no match "statistic"',
  );

const lossRule = (change: '-A' | '-D', chain: 'INPUT' | 'OUTPUT', device: string, percent: number): string[] => [
  '-w',
  change,
  chain,
  chain === 'INPUT' ? '-i' : '-o',
  device,
  ...['-m', 'statistic', '--mode', 'random', '--probability', String(percent / 100), '-j', 'DROP'],
];

/** Takes the next of 63 pairs of addresses, marked by a file with our pid so that labs of other processes take others. */
export function takePair(): { host: string; inside: string; give: () => void } {
  mkdirSync(marks(), { recursive: true, mode: 0o700 });
  for (const old of readdirSync(marks())) {
    const file = join(marks(), old);
    const pid = succeeds(() => readFileSync(file)) ? Number(readFileSync(file, 'utf8')) : 0;
    if (pid > 0 && !existsSync(`/proc/${pid}`)) rmSync(file, { force: true });
  }
  for (let pair = 1; pair < 64; pair++) {
    const file = join(marks(), String(pair));
    if (!succeeds(() => writeFileSync(file, String(process.pid), { flag: 'wx' }))) continue;
    // What a process that was killed has left, a link or the cable of a machine, has the same addresses.
    for (const kind of ['flh', 'flm']) succeeds(() => ip('link', 'del', `${kind}${pair * 4 + 1}`));
    return { host: `192.0.2.${pair * 4 + 1}`, inside: `192.0.2.${pair * 4 + 2}`, give: () => rmSync(file, { force: true }) };
  }
  throw new Error('all links of 192.0.2.0/24 are taken');
}

/** Makes an empty network namespace. Its names and addresses are given back by `release`, or when this process ends. */
export function createNetworkNamespace(): NetworkNamespace {
  const name = `fl-${process.pid}-${++serial}`;
  ip('netns', 'add', name);
  const undos: Array<() => void> = [() => ip('netns', 'del', name)];
  let released = false;
  const release = () => {
    if (released) return;
    released = true;
    forget();
    // Processes that still run keep the namespace and with it the far ends; the near ends go at once.
    for (const undo of undos.reverse()) succeeds(undo);
  };
  const forget = undoAtExit(release);
  ip('-n', name, 'link', 'set', 'lo', 'up');

  const addLink = (): Link => {
    const { host, inside, give } = takePair();
    undos.push(give);
    const near = `flh${host.slice('192.0.2.'.length)}`;
    const far = `fln${host.slice('192.0.2.'.length)}`;
    succeeds(() => ip('link', 'del', near));
    ip('link', 'add', near, 'type', 'veth', 'peer', 'name', far, 'netns', name);
    undos.push(() => ip('link', 'del', near));
    ip('addr', 'add', `${host}/30`, 'dev', near);
    ip('link', 'set', near, 'up');
    ip('-n', name, 'addr', 'add', `${inside}/30`, 'dev', far);
    ip('-n', name, 'link', 'set', far, 'up');
    let losing = 0;
    const rules = (change: '-A' | '-D', percent: number) => {
      for (const chain of ['INPUT', 'OUTPUT'] as const)
        run('ip', 'netns', 'exec', name, 'iptables', ...lossRule(change, chain, far, percent));
    };
    return {
      host,
      inside,
      cut(direction = 'both') {
        if (direction !== 'out') ip('neigh', 'replace', inside, 'lladdr', NOBODY, 'dev', near, 'nud', 'permanent');
        if (direction !== 'in') ip('-n', name, 'neigh', 'replace', host, 'lladdr', NOBODY, 'dev', far, 'nud', 'permanent');
      },
      restore() {
        succeeds(() => ip('neigh', 'del', inside, 'dev', near));
        succeeds(() => ip('-n', name, 'neigh', 'del', host, 'dev', far));
      },
      impair(netem) {
        run('tc', 'qdisc', 'replace', 'dev', near, 'root', 'netem', ...netem);
        run('ip', 'netns', 'exec', name, 'tc', 'qdisc', 'replace', 'dev', far, 'root', 'netem', ...netem);
      },
      lose(percent) {
        if (losing > 0) rules('-D', losing);
        losing = percent;
        if (losing > 0) rules('-A', losing);
      },
    };
  };

  return {
    name,
    command: (command, args) => ['nsenter', [`--net=/run/netns/${name}`, '--', command, ...args]],
    addLink,
    route: (network, link) => {
      ip('-n', name, 'route', 'replace', network, 'via', link.host);
    },
    release,
  };
}
