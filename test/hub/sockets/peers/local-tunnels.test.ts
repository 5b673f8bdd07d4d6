import { expect, test, vi } from 'vitest';
import { localTunnels } from '../../../../src/hub/sockets/peers/local-tunnels.ts';
import { type LocalTunnel, tunnelDirectory } from '../../../../src/hub/sockets/tunnel-directory.ts';
import { cleanUp } from '../../../support/clean-up.ts';
import { target } from './replicas.ts';

const undo = cleanUp();

function tunnel(id: string, name: string) {
  const state = { draining: false, left: false };
  const made: LocalTunnel = {
    ...{
      id,
      protocol: 'fairlead',
      agentVersion: name,
      instance: name,
      credentialID: undefined,
      since: new Date(0),
      rank: 0,
      upstream: target(name),
    },
    ...{ roundTripMs: () => 3, heard: () => 0, isDraining: () => state.draining, isClosing: () => state.left, hasLeft: () => state.left },
    ...{ drain: () => undefined, close: () => undefined, destroy: () => undefined },
  };
  return { made, state };
}

test('of several tunnels of a cluster one is told of, and it is draining only when all are', () => {
  const directory = tunnelDirectory();
  const tunnels = localTunnels(directory);
  const changed = vi.fn();
  tunnels.onChange(changed, undo.signal());
  const [old, fresh] = [tunnel('c1', 'old'), tunnel('c1', 'fresh')];
  directory.add(old.made);
  directory.add(fresh.made);
  expect(changed).toHaveBeenCalledTimes(2);
  const told = () => [...tunnels.local()].map(({ agentVersion, draining }) => [agentVersion, draining]);
  expect(told()).toEqual([['fresh', false]]);
  fresh.state.draining = true;
  expect(told()).toEqual([['old', false]]);
  old.state.draining = true;
  expect(told()).toEqual([[expect.any(String), true]]);
  // Other replicas may have no better one.
  expect(tunnels.find('c1')).toBeDefined();
  directory.remove(old.made);
  directory.remove(fresh.made);
  expect([told(), tunnels.find('c1')]).toEqual([[], undefined]);
});

test('a tunnel whose agent has left is told of as left while it still carries what was begun', () => {
  const directory = tunnelDirectory();
  const tunnels = localTunnels(directory);
  const { made, state } = tunnel('c1', 'only');
  directory.add(made);
  expect(tunnels.hasLeft('c1')).toBe(false);
  Object.assign(state, { draining: true, left: true });
  expect([[...tunnels.local()], tunnels.hasLeft('c1')]).toEqual([[], true]);
  directory.remove(made);
  expect(tunnels.hasLeft('c1')).toBe(true);
});
