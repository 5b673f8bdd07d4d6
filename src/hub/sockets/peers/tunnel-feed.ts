import type { Writable } from 'node:stream';
import { type LocalTunnels, type TunnelInfo, tunnelLine } from './tunnel-list.ts';

/** Changes are gathered for so long, so that a thousand agents that reconnect are a few writes. */
const GATHER_MS = 20;
/** How often round-trip times are told anew. */
const REFRESH_MS = 10_000;

/** Writes the list of tunnels and then its changes, until the stream closes or the signal is aborted: then the last line says that this replica closes. A slow reader gets fewer and larger steps, not a growing queue. */
export function feedTunnels(tunnels: LocalTunnels, stream: Writable, signal: AbortSignal): void {
  const over = new AbortController();
  let told = new Map<string, TunnelInfo>();
  let timer: NodeJS.Timeout | undefined;
  let waiting = false;
  let synced = false;

  function flush(): void {
    timer = undefined;
    const now = new Map<string, TunnelInfo>();
    let text = '';
    for (const tunnel of tunnels.local()) {
      const { id } = tunnel;
      // The directory may change its objects in place.
      now.set(id, { ...tunnel });
      const before = told.get(id);
      if (!before || hasChanged(before, tunnel)) text += tunnelLine({ tunnel });
    }
    for (const id of told.keys()) if (!now.has(id)) text += tunnelLine({ gone: id, left: tunnels.hasLeft(id) });
    if (!synced) text += tunnelLine({ synced: true });
    synced = true;
    told = now;
    if (text !== '' && !stream.write(text)) waiting = true;
  }
  function gather(): void {
    if (!waiting && !over.signal.aborted) timer ??= setTimeout(flush, GATHER_MS);
  }
  const refresh = setInterval(gather, REFRESH_MS);
  const stop = () => {
    over.abort();
    clearTimeout(timer);
    clearInterval(refresh);
    signal.removeEventListener('abort', end);
  };
  const end = () => {
    stop();
    stream.end(tunnelLine({ closing: true }));
  };
  stream.on('drain', () => {
    waiting = false;
    gather();
  });
  stream.once('close', stop);
  signal.addEventListener('abort', end, { once: true });
  tunnels.onChange(gather, over.signal);
  flush();
}

function hasChanged(before: TunnelInfo, now: TunnelInfo): boolean {
  const { draining, since, agentVersion, protocol, instance, rank, tookOver } = now;
  if (draining !== before.draining || since.getTime() !== before.since.getTime()) return true;
  if (agentVersion !== before.agentVersion || protocol !== before.protocol) return true;
  if (instance !== before.instance || rank !== before.rank || tookOver !== before.tookOver) return true;
  // Round-trip times always differ a little; only what somebody would notice is told.
  const [was, is] = [before.roundTripMs, now.roundTripMs];
  return was === undefined || is === undefined ? was !== is : Math.abs(is - was) > Math.max(2, was / 5);
}
