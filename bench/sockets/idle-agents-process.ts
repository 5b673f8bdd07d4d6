import { randomUUID } from 'node:crypto';
import { backoff } from '../../src/agent/backoff.ts';
import { type Parent, type ParentOptions, parentConnection } from '../../src/agent/parent/parent.ts';
import { dial } from '../../src/agent/tunnel/dial.ts';
import { acceptTunnel } from '../../src/tunnel/session.ts';
import type { AgentCredential, AgentsOrder, AgentsState } from './idle-agents.ts';

/** The other side of startIdleAgents(): the agent's own dialling, backoff and session, without a cluster behind them. */
type Idle = {
  credential: AgentCredential;
  stop: AbortController /** Cuts the tunnel; undefined while there is none. */;
  cut: (() => void) | undefined;
};

const agents: Idle[] = [];
let attempts = 0;
let refusals: Record<string, number> = {};

/** Keeps one tunnel of one agent until it is stopped. */
async function keep(agent: Idle, parent: Parent): Promise<void> {
  const { signal } = agent.stop;
  const pauses = backoff(200, 30_000);
  const instance = randomUUID();
  while (!signal.aborted) {
    let after = 0;
    try {
      attempts++;
      const { id, token } = agent.credential;
      const answer = await dial({ parent, clusterId: id, token, instance, version: 'bench', have: [], signal });
      if (answer.kind === 'attached') {
        pauses.reset();
        const { socket, head } = answer;
        const { closed } = acceptTunnel(socket, head, { serve: (stream) => stream.close(), onError: () => undefined });
        agent.cut = () => socket.destroy();
        await closed;
        agent.cut = undefined;
        continue;
      }
      const key = answer.kind === 'answered' ? `${answer.code} ${answer.message.slice(0, 80)}` : answer.kind;
      refusals[key] = (refusals[key] ?? 0) + 1;
      after = answer.retryAfterMs;
    } catch (error) {
      const key = error instanceof Error ? error.message.slice(0, 100) : 'error';
      refusals[key] = (refusals[key] ?? 0) + 1;
    }
    await pauses.pause(signal, after);
  }
}

/** So many are started at once; the others wait for their turn. */
const AT_ONCE = 50;

async function open(credentials: readonly AgentCredential[], options: ParentOptions): Promise<void> {
  const parent = parentConnection(options, () => undefined);
  for (let at = 0; at < credentials.length; at += AT_ONCE) {
    const started = credentials.slice(at, at + AT_ONCE).map((credential) => {
      const agent: Idle = { credential, stop: new AbortController(), cut: undefined };
      keep(agent, parent).catch(() => undefined);
      return agent;
    });
    agents.push(...started);
    const limit = performance.now() + 10_000;
    while (started.some(({ cut }) => !cut) && performance.now() < limit) await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const state = (): AgentsState => ({ connected: agents.filter(({ cut }) => cut).length, wanted: agents.length, attempts, refusals });

process.on('message', (order: AgentsOrder) => {
  switch (order.kind) {
    case 'open':
      open(order.credentials, order.parent).then(
        () => process.send?.({ id: order.id, state: state() }),
        () => process.send?.({ id: order.id, state: state() }),
      );
      return;
    case 'drop':
      attempts = 0;
      refusals = {};
      for (const { cut } of agents) cut?.();
      break;
    case 'close':
      for (const { stop, cut } of agents.splice(0)) {
        stop.abort();
        cut?.();
      }
      break;
    case 'look':
      break;
  }
  process.send?.({ id: order.id, state: state() });
});
process.on('disconnect', () => process.exit());
