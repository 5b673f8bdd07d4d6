import type { Upstream } from '../../../tunnel/upstream.ts';

/** What replicas tell each other of a tunnel. */
export type TunnelInfo = {
  /** Cluster id. */
  id: string;
  /** fairlead or clusternet. */
  protocol: string;
  agentVersion: string | undefined;
  /** Agent process and rank, as in LocalTunnel; undefined from a replica of before they were told. */
  instance: string | undefined;
  rank: number | undefined;
  /** When it was opened its replica ended tunnels of another agent process, and reported that. */
  tookOver: boolean;
  since: Date;
  /** The tunnel takes no new requests for long: others are better. */
  draining: boolean;
  roundTripMs: number | undefined;
};

/** The tunnels that end in this replica; one entry for a cluster. */
export type LocalTunnels = {
  local(): Iterable<TunnelInfo>;
  find(id: string): Upstream | undefined;
  /** Whether the last tunnel of a cluster ended because its agent went elsewhere. */
  hasLeft(id: string): boolean;
  /** A tunnel came, went or changed; not for each ping. */
  onChange(listener: () => void, signal: AbortSignal): void;
};

/** One line of the stream `GET /tunnels`: every tunnel, then `synced`, then what changes; `closing`, the last one, asks for no more requests. */
export type TunnelLine = { tunnel: TunnelInfo } | { gone: string; left?: boolean } | { synced: true } | { closing: true };

export const tunnelLine = (line: TunnelLine): string => `${JSON.stringify(line)}\n`;

/** Reads a line of another replica, perhaps of another version: fields that are not known are left out. Throws an Error when it makes no sense; undefined for a line of a kind to come. */
export function parseTunnelLine(text: string): TunnelLine | undefined {
  const line: unknown = JSON.parse(text);
  if (typeof line !== 'object' || line === null) throw new Error('a line that is no object');
  if ('synced' in line) return { synced: true };
  if ('closing' in line) return { closing: true };
  if ('gone' in line && typeof line.gone === 'string') return { gone: line.gone, left: 'left' in line && line.left === true };
  if (!('tunnel' in line)) return undefined;
  const { id, protocol, agentVersion, instance, rank, tookOver, since, draining, roundTripMs } = line.tunnel as Record<string, unknown>;
  const began = new Date(typeof since === 'string' ? since : Number.NaN);
  if (typeof id !== 'string' || id === '' || Number.isNaN(began.getTime())) throw new Error('a tunnel without id or time');
  return {
    tunnel: {
      id,
      protocol: typeof protocol === 'string' ? protocol : '',
      agentVersion: typeof agentVersion === 'string' ? agentVersion : undefined,
      instance: typeof instance === 'string' ? instance : undefined,
      rank: typeof rank === 'number' ? rank : undefined,
      tookOver: tookOver === true,
      since: began,
      draining: draining === true,
      roundTripMs: typeof roundTripMs === 'number' ? roundTripMs : undefined,
    },
  };
}
