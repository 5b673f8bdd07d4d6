import type { TunnelDirectory } from '../tunnel-directory.ts';
import type { LocalTunnels } from './tunnel-list.ts';

/** What other replicas are told of this one's tunnels: for each cluster the one that its requests get, draining only when all of them are. */
export function localTunnels(
  directory: Pick<TunnelDirectory, 'local' | 'of' | 'find' | 'lastResort' | 'lastEnd' | 'onChange'>,
): LocalTunnels {
  const best = (id: string) => directory.find(id) ?? directory.lastResort(id);
  return {
    *local() {
      for (const tunnel of directory.local()) {
        const { id, protocol, agentVersion, instance, rank, tookOver = false, since } = tunnel;
        if (best(id) !== tunnel) continue;
        const [draining, roundTripMs] = [tunnel.isDraining(), tunnel.roundTripMs()];
        yield { id, protocol, agentVersion, instance, rank, tookOver, since, draining, roundTripMs };
      }
    },
    // One that has left is not told of any more, and may have no end yet: it still carries what was begun.
    hasLeft: (id) => directory.lastEnd(id)?.left === true || directory.of(id).some((tunnel) => tunnel.hasLeft()),
    find: (id) => best(id)?.upstream,
    onChange: (listener, signal) => directory.onChange(() => listener(), signal),
  };
}
