const SMALLEST = 1024;
const LARGEST = 32 * 1024;

/** Bytes that wait for a reader. */
export type Inbox = {
  put(bytes: Buffer): void;
  /** The oldest bytes, undefined when there are none. */
  take(): Buffer | undefined;
  /** Memory that is held, at least as much as the bytes in it. */
  size(): number;
};

/**
 * Copies what waits into blocks of its own. A part of a message would keep the whole of what was read from the socket alive: with frames of one
 * byte, 64 KiB for each of them.
 */
export function inbox(): Inbox {
  const blocks: Buffer[] = [];
  let filled = 0;
  let size = 0;
  return {
    put(bytes) {
      let rest = bytes;
      while (rest.length > 0) {
        let last = blocks.at(-1);
        if (!last || filled === last.length) {
          last = Buffer.allocUnsafeSlow(Math.min(LARGEST, Math.max(SMALLEST, rest.length, size)));
          blocks.push(last);
          filled = 0;
          size += last.length;
        }
        const copied = rest.copy(last, filled);
        filled += copied;
        rest = rest.subarray(copied);
      }
    },
    take() {
      const block = blocks.shift();
      if (!block) return;
      size -= block.length;
      return blocks.length === 0 ? block.subarray(0, filled) : block;
    },
    size: () => size,
  };
}
