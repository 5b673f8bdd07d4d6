import { PassThrough } from 'node:stream';
import { expect, test, vi } from 'vitest';
import { feedTunnels } from '../../../../src/hub/sockets/peers/tunnel-feed.ts';
import { parseTunnelLine, type TunnelInfo } from '../../../../src/hub/sockets/peers/tunnel-list.ts';
import { lines } from '../../../../src/kube/lines.ts';
import { cleanUp } from '../../../support/clean-up.ts';
import { fakeTunnels, target } from './replicas.ts';

const undo = cleanUp();
const upstream = target('child');

/** What a reader of the stream knows. */
function follow(stream: PassThrough) {
  const [known, seen] = [new Map<string, TunnelInfo>(), { lines: 0, synced: false, closing: false }];
  const read = async () => {
    for await (const text of lines(stream)) {
      const line = parseTunnelLine(text);
      seen.lines++;
      if (line && 'tunnel' in line) known.set(line.tunnel.id, line.tunnel);
      else if (line && 'gone' in line) known.delete(line.gone);
      else if (line && 'closing' in line) seen.closing = true;
      else seen.synced = true;
    }
  };
  return { known, seen, done: read() };
}

test('a reader gets every tunnel, the word that this is all, and then what changes', async () => {
  const [tunnels, stream] = [fakeTunnels(), new PassThrough()];
  const controller = new AbortController();
  const since = new Date('2026-01-02T03:04:05.678Z');
  tunnels.set('c1', upstream, { since, agentVersion: undefined, roundTripMs: undefined });
  tunnels.set('c2', upstream, { draining: true });
  feedTunnels(tunnels, stream, controller.signal);
  const { known, seen, done } = follow(stream);
  await vi.waitFor(() => expect(seen.synced).toBe(true));
  expect([...known.keys()]).toEqual(['c1', 'c2']);
  expect(known.get('c1')).toMatchObject({ since, agentVersion: undefined, roundTripMs: undefined, draining: false });
  expect(known.get('c2')?.draining).toBe(true);
  tunnels.remove('c2');
  tunnels.set('c1', upstream, { since, draining: true });
  await vi.waitFor(() => expect([known.size, known.get('c1')?.draining]).toEqual([1, true]));
  expect([seen.lines, seen.closing]).toEqual([5, false]);
  controller.abort();
  await done;
  expect(seen.closing).toBe(true);
});

test('a reader who stops reading costs one buffer, and has the truth when he reads on', async () => {
  const [tunnels, stream] = [fakeTunnels(), new PassThrough({ highWaterMark: 1_000 })];
  feedTunnels(tunnels, stream, undo.signal());
  // Each change in a turn of its own, so that they could be written one by one.
  for (let i = 0; i < 2_000; i++) {
    tunnels.set(`c${i % 50}`, upstream, { since: new Date(i) });
    if (i % 20 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }
  expect(stream.readableLength + stream.writableLength).toBeLessThan(20_000);
  const { known, done } = follow(stream);
  await vi.waitFor(() => expect(known.get('c49')?.since).toEqual(new Date(1_999)));
  expect(known.size).toBe(50);
  stream.end();
  await done;
});

test('lines of another version are understood as far as they go, and nonsense is not', () => {
  expect(parseTunnelLine('{"new":true}')).toBeUndefined();
  expect(parseTunnelLine('{"tunnel":{"id":"c1","since":"2026-01-02T03:04:05Z","more":1}}')).toMatchObject({
    tunnel: { id: 'c1', protocol: '', draining: false },
  });
  for (const wrong of [
    '',
    '1',
    'null',
    '{',
    '{"tunnel":{}}',
    '{"tunnel":{"id":"","since":"2026-01-02T03:04:05Z"}}',
    '{"tunnel":{"id":"c","since":"x"}}',
  ]) {
    expect(() => parseTunnelLine(wrong)).toThrow();
  }
});
