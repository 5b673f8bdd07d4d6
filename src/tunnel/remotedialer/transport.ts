/** What a session hears from its transport. Nothing comes after `closed`, which comes once. */
export type TransportEvents = {
  /** A binary message. The buffer belongs to the listener, but may be a part of a larger one. */
  message(message: Buffer): void;
  /** The peer broke the rules of the transport; `closed` follows. */
  broken(error: Error): void;
  /** Any sign of life, also a ping of the peer. Comes before `message`. */
  alive(): void;
  /** The answer to one `ping`, in their order. */
  pong(): void;
  /** Something that was sent has left; `bufferedAmount` is less than before. */
  drained(): void;
  closed(error: Error): void;
};

/** Messages in their order, whole, both ways: a websocket, or in a test a pair in memory. No method throws; after the end they do nothing. */
export type MessageTransport = {
  listen(events: TransportEvents): void;
  /** Sends a message. The buffer must not be changed afterwards. */
  send(message: Buffer): void;
  /** Bytes that were sent and have not left this process. */
  bufferedAmount(): number;
  /** Asks for a pong, behind everything that was sent before. */
  ping(): void;
  /** Stops reading: what the peer sends stays in its own buffers. A few messages that were read already may still come. */
  hold(): void;
  release(): void;
  /** Says why, and cuts the connection soon. The code is one of the websocket's (RFC 6455, section 7.4): 1001, or others for a peer that broke the rules. */
  close(code: number, reason: string): void;
};
