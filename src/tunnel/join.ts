import type { Duplex } from 'node:stream';

/**
 * Joins two connections: bytes go both ways with backpressure, the end of one direction is passed on alone (half close), and an error or an end
 * before its time on one side destroys the other. `cut` ends the first side when the second one broke.
 */
export function joinStreams(one: Duplex, other: Duplex, cut: () => void): void {
  let broken = false;
  const breakBoth = () => {
    if (broken) return;
    broken = true;
    cut();
    other.destroy();
  };
  oneWay(one, other);
  oneWay(other, one);
  for (const side of [one, other]) {
    // Otherwise Node ends the way back as soon as the way there has ended.
    side.allowHalfOpen = true;
    side.on('error', breakBoth);
    side.once('close', () => {
      // Both directions had their end: nothing is lost.
      if (one.readableEnded && other.readableEnded && side.writableFinished) return;
      if (!side.readableEnded || !side.writableFinished) breakBoth();
    });
  }
}

function oneWay(from: Duplex, to: Duplex): void {
  from.on('data', (chunk: Buffer) => {
    if (to.writable && !to.write(chunk)) from.pause();
  });
  to.on('drain', () => from.resume());
  from.once('end', () => {
    if (to.writable) to.end();
  });
}
