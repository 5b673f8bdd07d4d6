import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeFrame, FRAME, frameEncoder, PAYLOAD_BYTES } from '../../../src/tunnel/remotedialer/frame.ts';
import { ProtocolError } from '../../../src/tunnel/remotedialer/protocol-error.ts';
import { times } from '../../support/counts.ts';
import { CONNECT, DATA, peerFrame, putVarint, readPeerFrame } from './peer.ts';

const numRuns = times(500, 20_000);
const int64 = fc.oneof(
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.bigInt({ min: -70_000n, max: 70_000n }),
  near(52n),
  near(53n),
  near(48n),
);

function near(exponent: bigint) {
  return fc.tuple(fc.constantFrom(-1n, 1n), fc.bigInt({ min: -3n, max: 3n })).map(([sign, delta]) => sign * 2n ** exponent + delta);
}

test('the frame that was captured from a clusternet hub', () => {
  const captured = Buffer.from(`d8e3c1949d919efa5b0404b0ea01${Buffer.from('tcp/127.0.0.1:26443').toString('hex')}`, 'hex');
  expect(decodeFrame(captured)).toEqual({ id: 2, type: FRAME.connect, payload: Buffer.from('tcp/127.0.0.1:26443') });
  const hello = Buffer.from('d8e3c1949d919efa5b0402b0ea0116030100', 'hex');
  expect(decodeFrame(hello)).toEqual({ id: 2, type: FRAME.data, payload: Buffer.from('16030100', 'hex') });
});

test('each int64 is read as the peer wrote it, in one form', () => {
  fc.assert(
    fc.property(int64, int64, fc.integer({ min: 1, max: 8 }), fc.uint8Array({ maxLength: 200 }), (messageID, id, type, payload) => {
      const frame = decodeFrame(peerFrame(id, BigInt(type), Buffer.from(payload), messageID));
      expect(BigInt(frame.id)).toBe(id);
      expect(typeof frame.id).toBe(Number.isSafeInteger(Number(id)) ? 'number' : 'bigint');
      expect([frame.type, [...frame.payload]]).toEqual([type, [...payload]]);
    }),
    { numRuns },
  );
});

test('the peer reads each frame as it was written, and message ids go up', () => {
  const encode = frameEncoder();
  let before: bigint | undefined;
  fc.assert(
    fc.property(int64, fc.integer({ min: 1, max: 7 }), fc.uint8Array({ maxLength: 200 }), (id, type, payload) => {
      const own = Number.isSafeInteger(Number(id)) ? Number(id) : id;
      const frame = readPeerFrame(encode(own, type, Buffer.from(payload)));
      expect([frame.id, frame.type, [...frame.payload]]).toEqual([id, BigInt(type), [...payload]]);
      expect(frame.deadline).toBe(frame.type === DATA || frame.type === CONNECT ? 15_000n : undefined);
      expect(frame.messageID >= 0n && frame.messageID < 2n ** 63n).toBe(true);
      if (before !== undefined) expect(frame.messageID).toBe(BigInt.asUintN(63, before + 1n));
      before = frame.messageID;
    }),
    { numRuns },
  );
});

describe('refused', () => {
  const rows: [string, Buffer][] = [
    ['nothing', Buffer.alloc(0)],
    ['a number that does not end', Buffer.from('ffff', 'hex')],
    ['a number of eleven bytes', Buffer.from(`${'80'.repeat(10)}000402b0ea01`, 'hex')],
    ['a number of 65 bits', Buffer.from(`${'ff'.repeat(9)}020404b0ea01`, 'hex')],
    ['no type', Buffer.from('0204', 'hex')],
    ['type 0', Buffer.from('020400', 'hex')],
    ['a negative type', Buffer.concat([putVarint(1n), putVarint(2n), putVarint(-1n)])],
    ['a type of 64 bits', Buffer.concat([putVarint(1n), putVarint(2n), putVarint(2n ** 62n)])],
    ['data without the deadline', Buffer.from('020402', 'hex')],
    ['too much data', peerFrame(2n, DATA, Buffer.alloc(PAYLOAD_BYTES + 1))],
  ];
  test.each(rows)('%s', (_name, message) => {
    expect(() => decodeFrame(message)).toThrow(ProtocolError);
  });
});

test('padded numbers are taken, as Go takes them', () => {
  expect(decodeFrame(Buffer.from('8200848080000600', 'hex'))).toEqual({ id: 2, type: FRAME.error, payload: Buffer.from([0]) });
});
