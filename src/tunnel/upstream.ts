import type { Duplex, Readable, Writable } from 'node:stream';

/** Flat header list, name, value, name, value, ..., as `rawHeaders` of Node has it: bytes as latin1, repeated names allowed. */
export type RawHeaders = readonly string[];

/** A request as it travels: end-to-end headers only, target and path untouched. */
export type RequestHead = {
  method: string;
  scheme: 'http' | 'https';
  /** `host`, `host:port`, or `direct` (the API server of the agent's own cluster) or `agent` (the agent itself). */
  authority: string;
  /** Path and query exactly as they were sent; at least `/`. */
  path: string;
  headers: RawHeaders;
};

/** Where an answer goes. Either `head` and then the body's end, or `fail`; `fail` may also come after `head`: then the body is not whole. */
export type Answer = {
  /** The head has come (once). Returns where the body is to be written. */
  head(code: number, headers: RawHeaders): Writable;
  /** Trailers, before the end of the body. */
  trailers(headers: RawHeaders): void;
  fail(error: Error): void;
};

/** For an upgrade: `switched` instead of `head` when the target answered 101. The stream is then the connection, both ways, with half close. */
export type UpgradeAnswer = Answer & { switched(headers: RawHeaders, stream: Duplex): void };

/** A request on its way. */
export type Exchange = {
  /** Gives up: what is upstream is cut, and nothing more is answered. */
  abort(): void;
};

/** Something that carries requests to their target: a tunnel, a peer that holds the tunnel, or connections to the target itself. Never throws. */
export type Upstream = {
  /** `body` is undefined when the request has none. `trailers` are those of the request, known when the body has ended. */
  exchange(head: RequestHead, body: { stream: Readable; trailers: () => RawHeaders } | undefined, answer: Answer): Exchange;
  /** `protocol` is the token of the Upgrade header. */
  upgrade(head: RequestHead, protocol: string, answer: UpgradeAnswer): Exchange;
};
