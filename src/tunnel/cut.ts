import { constants, type Http2Stream } from 'node:http2';

/**
 * Ends a stream so that the other side sees a reset and nothing that looks like a proper end: Node's `close(code)` sends the end of the body before
 * the reset, and half a body would be taken for a whole one. The stream must have an 'error' listener.
 */
export function cutStream(stream: Http2Stream): void {
  if (stream.destroyed) return;
  const error = new Error('given up');
  // By this name Node resets with CANCEL instead of INTERNAL_ERROR.
  error.name = 'AbortError';
  stream.destroy(error);
}

/**
 * Whether a stream that has emitted 'end' really got to the end: Node emits it after a reset too, but sets the code first. A stream that ended well may be destroyed
 * already when its 'end' comes, so that says nothing. Holds as long as nobody destroys a session or a stream without an error.
 */
export const endedWhole = (stream: Http2Stream): boolean => stream.rstCode === constants.NGHTTP2_NO_ERROR && !stream.errored;
