import type { TunnelDirectory } from './tunnel-directory.ts';

/** What is known of one cluster's tunnels. */
type Connection = {
  connected: boolean;
  since: Date;
  lastSeen: Date;
  roundTripMs: number | undefined;
  agentVersion: string | undefined;
  protocol: string;
  tunnels: number;
};

type Source = { connection(id: string): (Connection & { withPeer: boolean }) | undefined };

/** The tunnels here and in the other replicas as one. */
export function allConnections(directory: TunnelDirectory, peers: Source) {
  function here(id: string): Connection | undefined {
    const tunnels = directory.of(id);
    const [newest] = tunnels;
    if (!newest) {
      const end = directory.lastEnd(id);
      return (
        end && {
          connected: false,
          since: end.since,
          lastSeen: end.since,
          roundTripMs: undefined,
          agentVersion: undefined,
          protocol: '',
          tunnels: 0,
        }
      );
    }
    const heard = Math.max(...tunnels.map((tunnel) => tunnel.heard()));
    return {
      connected: true,
      since: new Date(Math.min(...tunnels.map(({ since }) => since.getTime()))),
      lastSeen: new Date(Date.now() - (performance.now() - heard)),
      roundTripMs: newest.roundTripMs(),
      agentVersion: newest.agentVersion,
      protocol: newest.protocol,
      tunnels: tunnels.length,
    };
  }
  return {
    get(id: string): Connection | undefined {
      const [mine, told] = [here(id), peers.connection(id)];
      // A replica that is not heard is no sign that the agent is away: nothing is known.
      const theirs = told?.withPeer ? undefined : told;
      if (!mine || !theirs) return mine ?? theirs;
      if (mine.connected !== theirs.connected) return mine.connected ? mine : theirs;
      const latest = mine.lastSeen >= theirs.lastSeen ? mine : theirs;
      if (!mine.connected) return latest;
      const since = mine.since <= theirs.since ? mine.since : theirs.since;
      return { ...latest, since, roundTripMs: mine.roundTripMs ?? theirs.roundTripMs, tunnels: mine.tunnels + theirs.tunnels };
    },
  };
}
