import { createServer } from 'node:net';

// Below the range that Linux gives to outgoing connections, so that no connection takes the port of a server that is just restarting.
const first = 20_000;
const last = 32_000;
const given = new Set<number>();

function isFree(port: number, host: string): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host, exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/** A TCP port that nothing listens on at `host` and that this process has not given out before. */
export async function freePort(host = '127.0.0.1'): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const port = first + Math.floor(Math.random() * (last - first));
    if (given.has(port)) continue;
    if (await isFree(port, host)) {
      given.add(port);
      return port;
    }
  }
  throw new Error(`no free TCP port on ${host} between ${first} and ${last}`);
}
