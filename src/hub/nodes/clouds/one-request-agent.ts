import { Agent as HTTPAgent } from 'node:http';
import { Agent as HTTPSAgent } from 'node:https';
import type { Duplex } from 'node:stream';
import type { Flight, Target } from './flight.ts';
import { openConnection, TransportError } from './flight.ts';

/**
 * An agent that carries exactly one request, on a connection that openConnection makes and guards: for SDKs that take an agent. A second request
 * (a redirect that the SDK follows, a retry) is refused. Node's own connection code and its proxies are not used.
 */
export function oneRequestAgent(target: Target, flight: Flight): HTTPAgent {
  let used = false;
  const open = (_options: unknown, connected?: (error: Error | null, stream: Duplex) => void): undefined => {
    if (!connected) throw new TypeError('this agent connects asynchronously');
    // Agent's callback takes an error alone as well, which its type does not say.
    const failed = connected as (error: Error) => void;
    if (used) {
      failed(new TransportError('SECOND_REQUEST', 'the SDK tried to send a second request'));
      return;
    }
    used = true;
    openConnection(target, flight).then((socket) => connected(null, socket), failed);
  };
  const agent = target.protocol === 'https:' ? new HTTPSAgent({ keepAlive: false }) : new HTTPAgent({ keepAlive: false });
  agent.createConnection = open;
  return agent;
}
