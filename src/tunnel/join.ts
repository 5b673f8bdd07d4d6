import type { Http2Stream } from 'node:http2';
import type { Duplex } from 'node:stream';
import { cutStream } from './cut.ts';

/**
 * Joins two connections: bytes go both ways with backpressure, the end of one direction is passed on alone (half close), and an error or an end before its time
 * on one side ends the other in the same way.
 */
export function joinStreams(one: Duplex, other: Duplex): void {
  let broken = false;
  const breakBoth = () => {
    if (broken) return;
    broken = true;
    breakOff(one);
    breakOff(other);
  };
  for (const side of [one, other]) {
    // Otherwise Node ends the way back as soon as the way there has ended.
    side.allowHalfOpen = true;
    side.on('error', breakBoth);
    // A reset of an HTTP/2 stream: Node then emits 'end' and 'finish' as if all were well.
    side.on('aborted', breakBoth);
    side.once('close', () => {
      if (!side.readableEnded || !side.writableFinished) breakBoth();
    });
  }
  oneWay(one, other);
  oneWay(other, one);
}

function breakOff(side: Duplex): void {
  if ('rstCode' in side) cutStream(side as unknown as Http2Stream);
  else side.destroy();
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
