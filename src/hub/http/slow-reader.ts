import type { ServerResponse } from 'node:http';

/**
 * Cuts the connection of a stream whose client has not taken what was written to it for `limitMs`; until then it would keep its place, and what is behind it
 * open. Silence of ours does not count, however long. Looks four times in that time.
 */
export function cutSlowReader(response: ServerResponse, limitMs: number): void {
  let since: number | undefined;
  const look = () => {
    // An answer that has ended has to be taken too, before its connection is free.
    const waits = response.writableNeedDrain || (response.writableEnded && !response.writableFinished);
    if (!waits) since = undefined;
    else if (since === undefined) since = performance.now();
    else if (performance.now() - since >= limitMs) response.destroy();
  };
  // Between two looks it may have read, and be waited for again.
  response.on('drain', () => {
    since = undefined;
  });
  const timer = setInterval(look, limitMs / 4);
  response.once('close', () => clearInterval(timer));
}
