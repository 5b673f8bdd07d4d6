import type { ChildProcess } from 'node:child_process';
import { execFile, spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';

export type Moto = { url: string; port: number; close(): Promise<void> };

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

/** Starts the EC2 emulator moto on a free loopback port; installs it at the first use (hack/tools.sh). Its process ends with `close` or with us. */
export async function startMoto(): Promise<Moto> {
  const root = join(import.meta.dirname, '../..');
  const { stdout } = await promisify(execFile)(join(root, 'hack/tools.sh'), ['moto'], { timeout: 600_000 });
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const child: ChildProcess = spawn(join(stdout.trim(), 'moto_server'), ['-H', '127.0.0.1', '-p', String(port)], { stdio: 'ignore' });
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  const close = async () => {
    process.off('exit', kill);
    kill();
    await ended;
  };
  const end = Date.now() + 60_000;
  for (;;) {
    const up = await fetch(`${url}/moto-api/data.json`).then(
      (answer) => answer.ok,
      () => false,
    );
    if (up) return { url, port, close };
    if (Date.now() > end || child.exitCode !== null) {
      await close();
      throw new Error('moto did not start');
    }
    await delay(100);
  }
}
