/** Something that has bytes to send. */
export type Sender = {
  /** Sends one piece of at most PIECE_BYTES. True when there is more that may be sent now. */
  sendPiece(): boolean;
};

/** The most that one connection sends before the next has its turn; what peers use as well. */
export const PIECE_BYTES = 32 * 1024;

export type Outbox = {
  /** The sender has something to send. */
  ready(sender: Sender): void;
  remove(sender: Sender): void;
  /** Something has left the transport. */
  drained(): void;
};

/** Takes pieces from the senders in turn as long as the transport holds less than `limit` bytes: a bulk transfer delays others by no more than that. */
export function outbox(bufferedAmount: () => number, limit: number): Outbox {
  const queue = new Set<Sender>();
  let pumping = false;
  const pump = () => {
    if (pumping) return;
    pumping = true;
    while (bufferedAmount() < limit) {
      const [sender] = queue;
      if (!sender) break;
      queue.delete(sender);
      if (sender.sendPiece()) queue.add(sender);
    }
    pumping = false;
  };
  return {
    ready(sender) {
      queue.add(sender);
      pump();
    },
    remove: (sender) => void queue.delete(sender),
    drained: pump,
  };
}
