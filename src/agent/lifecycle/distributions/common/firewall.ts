import type { MachineView } from '../../machine/machine.ts';
import type { Action } from '../../operations/step.ts';
import type { Ledger } from './ledger.ts';
import { ask, lines, run, tryRun } from './run.ts';

/** Names of chains that kube-proxy, kubelet, CNI plugins and the networks of manifests make. */
const CHAIN = '(?:KUBE|CNI|FLANNEL|cali|CILIUM|OLD_CILIUM)[-_][A-Za-z0-9_-]+';
const NAME = new RegExp(`^${CHAIN}$`);
/** Calico marks with a hash the rules that it puts into built-in chains; some of them lead nowhere. */
const CALICO_RULE = /comment "cali:[\w-]{16}"/;
/** Tables that nft itself shows for them. */
const NFT_TABLES = /^(ip6? (kube-proxy|flannel-ipv[46]|calico)|(inet|ip6?) cni_hostport)$/;
const NFT_CHAIN = new RegExp(`^\\s*chain ${CHAIN} `);
const NFT_JUMP = new RegExp(`(?:jump|goto) ${CHAIN}`);

const words = (line: string) => line.split(/[\s:]+/);

/** The rules of an iptables-save without what kube-proxy, kubelet and the pods' networks made. Chains of `keep` stay, with the rules that lead there. */
export function withoutKubernetes(saved: string, keep: readonly string[] = []): string {
  const goes = (name: string | undefined) => name !== undefined && NAME.test(name) && !keep.includes(name);
  const calicoStays = keep.some((name) => name.startsWith('cali-'));
  return saved
    .split('\n')
    .filter((line) => {
      if (line.startsWith(':')) return !goes(words(line)[1]);
      if (!calicoStays && CALICO_RULE.test(line)) return false;
      const parts = line.split(' ');
      return !parts.some((part, index) => ['-A', '-j', '-g'].includes(part) && goes(parts[index + 1]));
    })
    .join('\n');
}

/** Chains of iptables that are named as those of Kubernetes and CNI. */
export async function chainsNamedAlike(machine: MachineView): Promise<string[]> {
  const saved = [await ask(machine, ['iptables-save']), await ask(machine, ['ip6tables-save'])].flatMap(lines);
  return [...new Set(saved.flatMap((line) => (line.startsWith(':') ? words(line).slice(1, 2) : [])).filter((name) => NAME.test(name)))];
}

/** Lines `family table` that nft knows; empty where there is no nft. */
export async function nftTables(machine: MachineView): Promise<string[]> {
  return lines(await ask(machine, ['nft', 'list', 'tables'])).map((line) => line.replace(/^table\s+/, ''));
}

/** Whether a listing of one nft table holds rules, or chains other than empty built-in ones. */
function hasContent(listing: string): boolean {
  return lines(listing).some((line) => !/^(table |chain [A-Z]+ \{|type \w+ hook |policy |\}|#)/.test(line));
}

/**
 * Actions that take the rules of Kubernetes out of the packet filters and leave everybody else's. `before`: what was there. Tables that iptables made for it, and that are empty
 * then, go too.
 */
export async function firewallCleaning(machine: MachineView, before: Pick<Ledger, 'nftTables' | 'chains'> | undefined): Promise<Action[]> {
  const actions: Action[] = [];
  for (const family of ['iptables', 'ip6tables']) {
    const saved = await ask(machine, [`${family}-save`]);
    if (!saved) continue;
    const kept = withoutKubernetes(saved, before?.chains);
    if (kept !== saved) actions.push(run([`${family}-restore`], { input: kept }));
  }
  if (!before) return actions;
  for (const table of await nftTables(machine)) {
    if (before.nftTables.includes(table)) continue;
    const listing = (await ask(machine, ['nft', 'list', 'table', ...table.split(' ')])) ?? '';
    const [family = ''] = table.split(' ');
    const rest = family === 'ip' || family === 'ip6' ? withoutNft(listing) : listing;
    if (NFT_TABLES.test(table) || !hasContent(rest)) actions.push(tryRun(['nft', 'delete', 'table', ...table.split(' ')]));
  }
  return actions;
}

/** A listing of nft without chains of Kubernetes and rules that lead there. */
function withoutNft(listing: string): string {
  const kept: string[] = [];
  let inside = false;
  for (const line of listing.split('\n')) {
    if (NFT_CHAIN.test(line)) inside = true;
    if (!inside && !NFT_JUMP.test(line) && !CALICO_RULE.test(line)) kept.push(line);
    if (inside && /^\s*\}/.test(line)) inside = false;
  }
  return kept.join('\n');
}
