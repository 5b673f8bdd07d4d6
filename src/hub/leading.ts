import type { Logger } from 'pino';
import type { KubeClient } from '../kube/client.ts';
import { electLeader, type Leadership } from '../kube/leader-election.ts';
import type { Options } from './options.ts';

/** On the leader's Lease: the node it runs on, for the guard OwnNode of the other replicas. */
export const NODE_ANNOTATION = 'infraops.michael.io/node';

export type Election = {
  client: KubeClient;
  lead: (leadership: Leadership) => Promise<void>;
  signal: AbortSignal;
  log: Logger;
  onError: (error: unknown) => void;
  onReleased: (released: () => void, until: AbortSignal) => void;
};

/** Runs `lead` while this replica holds the Lease, or always without an election. Resolves when the signal is aborted and the Lease is released. */
export async function lead(options: Options, { client, lead: work, signal, log, onError, onReleased }: Election): Promise<void> {
  const logged = async (leadership: Leadership) => {
    log.info('leading: this replica runs the operations');
    await work(leadership);
    log.info('leading no more');
  };
  const { enabled, leaseName, ...times } = options.leaderElection;
  if (!enabled) return await logged({ signal, holds: () => !signal.aborted });
  await electLeader({
    client,
    namespace: options.nodes.namespace,
    name: leaseName,
    identity: options.identity,
    annotations: { [NODE_ANNOTATION]: options.nodeName },
    ...times,
    signal,
    lead: logged,
    onError,
    onReleased,
  });
}
