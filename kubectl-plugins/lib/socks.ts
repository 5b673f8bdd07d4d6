import { connect, type Socket } from 'node:net';

const REPLIES: Record<number, string> = {
  1: 'general failure',
  2: 'not allowed by its rules',
  3: 'network unreachable',
  4: 'host unreachable',
  5: 'connection refused',
  6: 'TTL expired',
  7: 'command not supported',
  8: 'address type not supported',
};

/** A connection to `host:port` through a SOCKS 5 proxy (RFC 1928, RFC 1929); the proxy resolves the name. Rejects with the proxy's reason. */
export async function connectThroughSocks(proxy: URL, host: string, port: number): Promise<Socket> {
  const socket = connect({ host: proxy.hostname.replace(/^\[|\]$/g, ''), port: Number(proxy.port || 1080) });
  try {
    const user = decodeURIComponent(proxy.username);
    socket.write(Buffer.from(user ? [5, 1, 2] : [5, 1, 0]));
    const method = (await read(socket, 2))[1];
    if (method === 2 && user) {
      const [name, password] = [Buffer.from(user), Buffer.from(decodeURIComponent(proxy.password))];
      socket.write(Buffer.concat([Buffer.from([1, name.length]), name, Buffer.from([password.length]), password]));
      if ((await read(socket, 2))[1] !== 0) throw new Error('it refused the user name and password');
    } else if (method !== 0) {
      throw new Error('it wants a way to sign in that is not known here');
    }
    const name = Buffer.from(host);
    if (name.length > 255) throw new Error('the host name is too long');
    socket.write(Buffer.concat([Buffer.from([5, 1, 0, 3, name.length]), name, Buffer.from([port >> 8, port & 0xff])]));
    const [, reply = 1, , type] = await read(socket, 4);
    if (reply !== 0) throw new Error(REPLIES[reply] ?? `reply ${reply}`);
    const length = type === 1 ? 4 : type === 4 ? 16 : ((await read(socket, 1))[0] ?? 0);
    await read(socket, length + 2);
    return socket;
  } catch (error) {
    socket.destroy();
    throw new Error(`SOCKS proxy ${proxy.host}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

/** Exactly `length` bytes; what comes behind them stays in the socket. */
function read(socket: Socket, length: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const done = (error?: Error, bytes?: Buffer) => {
      socket.off('readable', look).off('error', done).off('end', ended);
      if (bytes) resolve(bytes);
      else reject(error ?? new Error('failed'));
    };
    const ended = () => done(new Error('it closed the connection'));
    const look = () => {
      const bytes: Buffer | null = socket.read(length);
      if (bytes) done(undefined, bytes);
    };
    socket.on('readable', look).once('error', done).once('end', ended);
    look();
  });
}
