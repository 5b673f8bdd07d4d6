import { expect, test } from 'vitest';
import { outbox, type Sender } from '../../../src/tunnel/remotedialer/outbox.ts';

/** A transport that holds what is sent until the test lets it go, and senders with a number of pieces each. */
function line(limit: number) {
  const held: string[] = [];
  const out = outbox(() => held.length, limit);
  const sender = (name: string, pieces: number): Sender => {
    let left = pieces;
    return {
      sendPiece() {
        if (left === 0) return false;
        held.push(name);
        left--;
        return left > 0;
      },
    };
  };
  const drain = () => {
    const sent = held.splice(0);
    out.drained();
    return sent.join('');
  };
  return { out, sender, drain };
}

test('senders have their turn piece by piece, and a new one does not wait for the bulk', () => {
  const { out, sender, drain } = line(4);
  out.ready(sender('a', 100));
  out.ready(sender('b', 100));
  out.ready(sender('c', 1));
  expect([drain(), drain(), drain()]).toEqual(['aaaa', 'abca', 'baba']);
});

test('no more is sent than the transport may hold, and a removed sender sends nothing', () => {
  const { out, sender, drain } = line(2);
  const gone = sender('x', 5);
  out.ready(sender('a', 3));
  out.ready(gone);
  out.remove(gone);
  expect([drain(), drain(), drain()]).toEqual(['aa', 'a', '']);
});

test('a sender that becomes ready while it sends is asked again', () => {
  const sent: number[] = [];
  const out = outbox(() => 0, 1);
  const again: Sender = {
    sendPiece() {
      sent.push(sent.length);
      if (sent.length < 3) out.ready(again);
      return false;
    },
  };
  out.ready(again);
  expect(sent).toEqual([0, 1, 2]);
});
