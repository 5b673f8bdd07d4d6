import type { ClientOrder, ClientResult } from './client.ts';
import { type Connection, openConnection, type Target } from './http1.ts';
import { quantile } from './stats.ts';

/** The other side of startClient(): closed loops over keep-alive connections, several orders at once when asked. */
async function carryOut({ target, concurrency, durationMs, requests }: ClientOrder): Promise<ClientResult> {
  const opened = await Promise.allSettled(Array.from({ length: concurrency }, () => openConnection(target)));
  const connections = opened.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  const latencies: number[] = [];
  const statuses: Record<string, number> = {};
  let bytes = 0;
  let failure = '';
  const fail = (error: unknown, status: string) => {
    statuses[status] = (statuses[status] ?? 0) + 1;
    failure ||= error instanceof Error ? error.message : String(error);
  };
  for (const one of opened) if (one.status === 'rejected') fail(one.reason, 'refused');
  // The first answer on a connection pays for what is made once, and is not counted.
  await Promise.all(connections.map((connection) => connection.ask().catch((error) => fail(error, 'broken'))));

  const began = performance.now();
  const end = durationMs === undefined ? Number.POSITIVE_INFINITY : began + durationMs;
  const most = requests ?? Number.POSITIVE_INFINITY;
  let sent = 0;
  let last = began;
  async function loop(first: Connection): Promise<void> {
    let connection = first;
    while (performance.now() < end && sent < most) {
      sent++;
      const asked = performance.now();
      try {
        const answer = await connection.ask();
        last = performance.now();
        latencies.push(last - asked);
        bytes += answer.bytes;
        statuses[answer.status] = (statuses[answer.status] ?? 0) + 1;
      } catch (error) {
        fail(error, 'broken');
        connection.close();
        connection = await reopened(target, connection);
      }
    }
    connection.close();
  }
  await Promise.all(connections.map(loop));
  const seconds = Math.max(last - began, 0.001) / 1000;
  const failures = Object.entries(statuses).reduce((sum, [status, count]) => (status === '200' ? sum : sum + count), 0);
  return {
    perSecond: (latencies.length - Math.min(failures, latencies.length)) / seconds,
    megabytesPerSecond: bytes / 1e6 / seconds,
    bytesEach: latencies.length === 0 ? 0 : bytes / latencies.length,
    count: latencies.length,
    p50: latencies.length === 0 ? 0 : quantile(latencies, 0.5),
    p99: latencies.length === 0 ? 0 : quantile(latencies, 0.99),
    max: latencies.reduce((a, b) => Math.max(a, b), 0),
    failures,
    statuses,
    failure,
  };
}

/** A new connection in place of a broken one; the broken one again when there is none, so that the loop goes on failing until its end. */
async function reopened(target: Target, broken: Connection): Promise<Connection> {
  try {
    return await openConnection(target);
  } catch {
    await new Promise((resolve) => setTimeout(resolve, 10));
    return broken;
  }
}

process.on('message', (order: ClientOrder) => {
  carryOut(order).then(
    (result) => process.send?.({ id: order.id, result }),
    (error: unknown) => process.send?.({ id: order.id, error: String(error) }),
  );
});
process.on('disconnect', () => process.exit());
