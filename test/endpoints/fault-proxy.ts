import type { Server, Socket } from 'node:net';
import { connect, createServer } from 'node:net';

/** What the proxy does with the next connection whose request contains `match`. */
export type ProxyFault = {
  match: string;
  /** `cut-request`: reset before it is forwarded. `cut-answer`: forward, then reset when the answer comes. `hold-answer`: forward, never answer. `answer`: send these bytes instead of the real answer. */
  kind: 'cut-request' | 'cut-answer' | 'hold-answer' | 'answer';
  bytes?: string;
};

export type FaultProxy = { url: string; port: number; inject(fault: ProxyFault): void; forwarded: string[]; close(): Promise<void> };

/** A TCP proxy on loopback in front of an HTTP server; `forwarded` holds the first bytes of each request passed on. */
export async function startFaultProxy(upstreamPort: number): Promise<FaultProxy> {
  const faults: ProxyFault[] = [];
  const forwarded: string[] = [];
  const sockets = new Set<Socket>();
  const track = (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => sockets.delete(socket));
  };

  const server: Server = createServer((client) => {
    track(client);
    let request = '';
    client.on('data', (chunk) => {
      request += chunk.toString('latin1');
      const length = /^content-length: *(\d+)/im.exec(request)?.[1];
      const headEnd = request.indexOf('\r\n\r\n');
      if (headEnd < 0 || request.length < headEnd + 4 + Number(length ?? 0)) return;
      const whole = request;
      request = '';
      const index = faults.findIndex((f) => whole.includes(f.match));
      const fault = index < 0 ? undefined : faults.splice(index, 1)[0];
      if (fault?.kind === 'cut-request') {
        client.resetAndDestroy();
        return;
      }
      const upstream = connect(upstreamPort, '127.0.0.1');
      track(upstream);
      forwarded.push(whole);
      upstream.write(whole, 'latin1');
      upstream.on('data', (answer) => {
        if (fault?.kind === 'cut-answer') client.resetAndDestroy();
        else if (fault?.kind === 'answer') client.end(fault.bytes ?? '');
        else if (fault?.kind !== 'hold-answer') client.write(answer);
      });
      upstream.once('end', () => {
        if (!fault) client.end();
      });
      client.once('close', () => upstream.destroy());
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    port: address.port,
    url: `http://127.0.0.1:${address.port}`,
    inject: (fault) => faults.push(fault),
    forwarded,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}
