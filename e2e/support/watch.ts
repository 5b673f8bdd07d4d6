import { request } from 'node:https';
import { createInterface } from 'node:readline';
import type { Lab } from '../lab/lab.ts';

export type WatchEvent<T> = { type: 'ADDED' | 'MODIFIED' | 'DELETED'; object: T };

/** Watches a collection of a lab, as admin unless `user` says otherwise, from its present state on; resolves when the API server has accepted the watch. The function it gives ends it. */
export async function watchObjects<T>(
  lab: Lab,
  path: string,
  onEvent: (event: WatchEvent<T>) => void,
  user: { user: string; groups?: readonly string[] } = { user: 'watcher', groups: ['system:masters'] },
): Promise<() => void> {
  const { certificate, key } = lab.clientCertificate(user);
  return await new Promise((resolve, reject) => {
    const outgoing = request(
      new URL(`${path}?watch=true`, lab.apiServerURL),
      { ca: lab.ca, cert: certificate, key, agent: false },
      (answer) => {
        if (answer.statusCode !== 200) {
          reject(new Error(`watch of ${path}: ${answer.statusCode}`));
          outgoing.destroy();
          return;
        }
        const lines = createInterface({ input: answer });
        // The API server may end the watch, or go away.
        for (const source of [answer, lines]) source.on('error', () => undefined);
        lines.on('line', (line) => onEvent(JSON.parse(line) as WatchEvent<T>));
        resolve(() => outgoing.destroy());
      },
    );
    outgoing.on('error', reject);
    outgoing.end();
  });
}
