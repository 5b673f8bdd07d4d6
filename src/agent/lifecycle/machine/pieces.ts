import { open } from 'node:fs/promises';

const PIECE_BYTES = 1 << 20;

/**
 * The content of a file in pieces, all in one buffer: a piece holds only until the next one is asked for. A stream takes a buffer for each piece, which is garbage at once; half a gigabyte of
 * images and programs read so left 50 MiB that malloc could not give back, for as long as the agent ran. Rejects with the system's error, or with the reason of `signal`.
 */
export async function* piecesOf(path: string, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  const handle = await open(path);
  try {
    const buffer = Buffer.allocUnsafeSlow(PIECE_BYTES);
    for (;;) {
      signal?.throwIfAborted();
      const { bytesRead } = await handle.read(buffer, 0, buffer.length);
      if (bytesRead === 0) return;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await handle.close();
  }
}
