import { expect, test } from 'vitest';
import { findUpstream } from '../../../src/hub/sockets/find-upstream.ts';
import { type LocalTunnel, tunnelDirectory } from '../../../src/hub/sockets/tunnel-directory.ts';
import { target } from './peers/replicas.ts';

const CLUSTER = { id: 'c1', name: 'edge' };

/** A tunnel that takes no new requests and still carries some. */
const closing = (hasLeft: boolean): LocalTunnel => ({
  ...{ id: 'c1', protocol: 'fairlead', agentVersion: 'v1', instance: 'a', credentialID: undefined, since: new Date(0), rank: 0 },
  ...{ upstream: target('here'), roundTripMs: () => 3, heard: () => 0, isDraining: () => true, isClosing: () => true },
  ...{ hasLeft: () => hasLeft, drain: () => undefined, close: () => undefined, destroy: () => undefined },
});

/** Other replicas, of which one is found to have a tunnel at the third look. */
function peers() {
  const there = target('there');
  let looks = 0;
  return {
    there,
    looks: () => looks,
    find: () => (++looks < 3 ? undefined : there),
    connection: () => undefined,
    lastEnd: () => undefined,
  };
}

test('an agent that has left is looked for elsewhere, also while its tunnel here carries what was begun', async () => {
  const directory = tunnelDirectory();
  directory.add(closing(true));
  const others = peers();
  expect(await findUpstream(CLUSTER, directory, others)).toBe(others.there);
});

test('an agent whose tunnel ends without its wish is away at once', async () => {
  const directory = tunnelDirectory();
  directory.add(closing(false));
  const others = peers();
  await expect(findUpstream(CLUSTER, directory, others)).rejects.toMatchObject({ status: { code: 503 } });
  expect(others.looks()).toBe(1);
});
