import { createHash } from 'node:crypto';
import { createServer } from 'node:net';

/**
 * Holds a folder for this process: two agents with one journal would undo each other's work. The kernel gives the name free when the process ends, however it ends. Rejects with an Error
 * that says so when another process has it.
 */
export async function lockFolder(folder: string): Promise<{ release(): Promise<void> }> {
  const name = `\0fairlead-agent-${createHash('sha256').update(folder).digest('hex').slice(0, 32)}`;
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(
        error.code === 'EADDRINUSE' ? new Error(`another agent uses ${folder}: stop it, or give this one another --state-dir`) : error,
      );
    });
    server.listen(name, resolve);
  });
  server.on('error', () => undefined);
  return {
    release: () => new Promise((resolve) => server.close(() => resolve())),
  };
}
