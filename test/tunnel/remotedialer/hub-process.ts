import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dialerSession } from '../../../src/tunnel/remotedialer/dialer.ts';
import { websocketAcceptor } from '../../../src/tunnel/remotedialer/websocket.ts';

/**
 * A hub in a process of its own. Each session opens one connection and sends back what comes on it. Prints its port, and for each line that it reads the
 * memory it has and the sessions and connections that are open. Argument: limits as JSON.
 */
const accept = websocketAcceptor();
let sessions = 0;
const server = createServer();
server.on('upgrade', (request, socket, head) =>
  accept(request, socket, head, (transport) => {
    const session = dialerSession(transport, { limits: JSON.parse(process.argv[2] ?? '{}') });
    sessions++;
    void session.ended.then(() => sessions--);
    const stream = session.connect('echo', 1);
    stream.pipe(stream);
  }),
);
server.listen(0, '127.0.0.1', () => console.log((server.address() as AddressInfo).port));
process.stdin.on('data', () => {
  globalThis.gc?.();
  const { rss, heapUsed, arrayBuffers } = process.memoryUsage();
  console.log(JSON.stringify({ rss, heap: heapUsed + arrayBuffers, sessions }));
});
