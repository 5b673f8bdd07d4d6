import { expect, test, vi } from 'vitest';
import { cleanUp } from '../../../support/clean-up.ts';
import { limit, times } from '../../../support/counts.ts';
import { kubeApi } from '../../../support/kube-api.ts';
import { ask, putSlice, type Replica, removeSlice, startReplica, target } from './replicas.ts';

const undo = cleanUp();
const eventually = <T>(check: () => T | Promise<T>) => vi.waitFor(check, { timeout: 15_000, interval: 5 });

test(
  'R46: replicas are replaced one after the other while requests are forwarded, and none fails',
  async () => {
    const api = await kubeApi();
    undo.after(() => api.close());
    const front = await startReplica(api, 'front', { signal: undo.signal() });
    undo.after(() => front.peers.close(0));
    const [child, other] = [target('c1'), target('c2')];

    async function owner(name: string): Promise<Replica> {
      const replica = await startReplica(api, name, { signal: undo.signal() });
      undo.after(() => replica.peers.close(0));
      // The agents come before or after the other replicas know it.
      replica.tunnels.set('c1', child);
      replica.tunnels.set('c2', other);
      putSlice(api, name, replica.peers.port);
      return replica;
    }

    let now = await owner('owner-0');
    await eventually(() => expect(front.peers.find('c1')).toBeDefined());
    let over = false;
    let answered = 0;
    const failures: unknown[] = [];
    const client = async (id: string) => {
      while (!over) {
        const upstream = front.peers.find(id);
        try {
          if (!upstream) throw new Error(`no way to ${id}`);
          const { code, body } = await ask(upstream, { path: '/version' });
          if (code !== 200 || body.toString() !== id) throw new Error(`${code} ${body.toString()}`);
          answered++;
        } catch (error) {
          failures.push(error);
        }
        await new Promise((resolve) => setImmediate(resolve));
      }
    };
    const clients = ['c1', 'c2', 'c1', 'c2', 'c1', 'c2'].map(client);
    const rolls = times(6, 20);
    for (let roll = 1; roll <= rolls; roll++) {
      const next = await owner(`owner-${roll}`);
      await eventually(() => expect(front.peers.replicas()).toBe(3));
      for (const id of ['c1', 'c2']) {
        now.tunnels.set(id, id === 'c1' ? child : other, { draining: true });
        await eventually(() => expect(front.peers.connection(id)?.tunnels).toBe(1));
        now.tunnels.remove(id);
      }
      removeSlice(api, `owner-${roll - 1}`);
      await now.peers.close(5_000);
      await eventually(() => expect(front.peers.replicas()).toBe(2));
      now = next;
      const goal = answered + times(150, 1_000);
      await eventually(() => expect(answered + failures.length).toBeGreaterThan(goal));
    }
    over = true;
    await Promise.all(clients);
    expect(failures).toEqual([]);
    expect(answered).toBeGreaterThan(rolls * times(150, 1_000));
  },
  limit(60_000, 300_000),
);
