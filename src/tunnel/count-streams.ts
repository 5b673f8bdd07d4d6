import type { ClientHttp2Session } from 'node:http2';

/**
 * Counts the streams of a session. It is closed only when there are none: Node sends no pings after a GOAWAY, so that streams that are quiet for a while would be given up for silence; and the
 * side that gets the GOAWAY ends the connection with its last stream, whose last bytes may not have left yet. While `isClosing` none is opened.
 */
export function countStreams(session: ClientHttp2Session, isClosing: () => boolean): { whenIdle(listener: () => void): void } {
  const request = session.request.bind(session);
  let open = 0;
  let onIdle: (() => void) | undefined;
  session.request = (...args) => {
    if (isClosing()) throw new Error('the session is about to end');
    const stream = request(...args);
    open++;
    stream.once('close', () => {
      open--;
      if (open === 0) onIdle?.();
    });
    return stream;
  };
  return {
    whenIdle(listener) {
      if (open === 0) listener();
      else onIdle = listener;
    },
  };
}
