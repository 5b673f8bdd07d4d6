import { createServer, type IncomingMessage, type OutgoingHttpHeaders, type ServerResponse } from 'node:http';
import { Agent, request } from 'node:https';

/** A request as it arrived at the gate; `body` is text. */
export type KubeRequest = { method: string; path: string; query: URLSearchParams; body: string };

/** One request that is held. */
export type Hold = {
  /** Resolves when the request is there (before) or when its effect is (after). Rejects when the gate stops first. */
  reached: Promise<void>;
  isReached(): boolean;
  /** Lets it go on. */
  release(): void;
  /** Cuts its connection: held before, it never gets to the API server; held after, its answer is lost. */
  drop(): void;
};

/**
 * An HTTP proxy on loopback between a hub and kube-apiserver that can stop single requests before or after their effect. Credentials pass
 * through. Plain HTTP, so that a hub with a wrong clock can still reach its API server.
 */
export type KubeGate = {
  url: string;
  /** Holds the first request that matches, once. */
  hold(when: 'before' | 'after', matches: (request: KubeRequest) => boolean): Hold;
  /** Answers matching requests with a Status of this code until the returned function is called. */
  refuse(code: number, matches: (request: KubeRequest) => boolean): () => void;
  /** Sees every request that is no watch, when it arrives. */
  onRequest(listener: (request: KubeRequest) => void): () => void;
  /** Watches of paths that contain `part` deliver nothing until the returned function is called. */
  freezeWatches(part: string): () => void;
  stop(): Promise<void>;
};

const HOP_BY_HOP = ['connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'upgrade', 'te', 'trailer'];

async function readBody(incoming: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

function endToEnd(headers: IncomingMessage['headers']): OutgoingHttpHeaders {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !HOP_BY_HOP.includes(name)));
}

type ArmedHold = {
  when: 'before' | 'after';
  matches: (request: KubeRequest) => boolean;
  reach: () => void;
  decided: Promise<'go' | 'drop'>;
};

/** Starts the gate in front of the API server at `server`, verified by `ca` (PEM). */
export async function startKubeGate({ server, ca }: { server: string; ca: string }): Promise<KubeGate> {
  const agent = new Agent({ keepAlive: true, ca, maxFreeSockets: 64 });
  const holds = new Set<ArmedHold>();
  const refusals = new Set<{ code: number; matches: (request: KubeRequest) => boolean }>();
  const listeners = new Set<(request: KubeRequest) => void>();
  const watches = new Set<{ path: string; answer: IncomingMessage }>();
  const frozen = new Set<string>();
  const ends = new Set<(error: Error) => void>();

  const send = (incoming: IncomingMessage, body: Buffer): Promise<IncomingMessage> =>
    new Promise((resolve, reject) => {
      const headers = {
        ...endToEnd(incoming.headers),
        host: new URL(server).host,
        ...(body.length > 0 && { 'content-length': body.length }),
      };
      const outgoing = request(new URL(incoming.url ?? '/', server), { method: incoming.method ?? 'GET', agent, headers }, resolve);
      outgoing.once('error', reject);
      outgoing.end(body);
    });

  async function serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const raw = await readBody(incoming);
    const url = new URL(incoming.url ?? '/', 'http://gate');
    const seen = { method: incoming.method ?? '', path: url.pathname, query: url.searchParams, body: raw.toString('utf8') };
    if (url.searchParams.get('watch') === 'true') {
      serveWatch(seen.path, await send(incoming, raw), response);
      return;
    }
    for (const listener of listeners) listener(seen);
    const held = [...holds].find((one) => one.matches(seen));
    if (held) holds.delete(held);
    if (held?.when === 'before') {
      held.reach();
      if ((await held.decided) === 'drop') return void incoming.socket.destroy();
    }
    for (const { code, matches } of refusals) {
      if (!matches(seen)) continue;
      const status = { kind: 'Status', apiVersion: 'v1', status: 'Failure', code, message: 'refused by the gate of the test' };
      response.writeHead(code, { 'content-type': 'application/json' }).end(JSON.stringify(status));
      return;
    }
    const answer = await send(incoming, raw);
    const body = await readBody(answer);
    if (held?.when === 'after') {
      held.reach();
      if ((await held.decided) === 'drop') return void incoming.socket.destroy();
    }
    response.writeHead(answer.statusCode ?? 502, { ...endToEnd(answer.headers), 'content-length': body.length }).end(body);
  }

  function serveWatch(path: string, answer: IncomingMessage, response: ServerResponse): void {
    const entry = { path, answer };
    watches.add(entry);
    response.writeHead(answer.statusCode ?? 502, endToEnd(answer.headers));
    response.flushHeaders();
    answer.on('data', (chunk: Buffer) => response.write(chunk));
    if ([...frozen].some((part) => path.includes(part))) answer.pause();
    answer.once('end', () => response.end());
    answer.once('error', () => response.destroy());
    response.once('close', () => {
      watches.delete(entry);
      answer.destroy();
    });
  }

  const proxy = createServer((incoming, response) => {
    response.on('error', () => undefined);
    incoming.on('error', () => undefined);
    serve(incoming, response).catch(() => incoming.socket.destroy());
  });
  await new Promise<void>((resolve, reject) => {
    proxy.once('error', reject);
    proxy.listen(0, '127.0.0.1', resolve);
  });
  const address = proxy.address();
  if (address === null || typeof address === 'string') throw new Error('the gate has no TCP address');

  return {
    url: `http://127.0.0.1:${address.port}`,
    hold(when, matches) {
      const reached = Promise.withResolvers<void>();
      const decided = Promise.withResolvers<'go' | 'drop'>();
      let there = false;
      const armed: ArmedHold = {
        when,
        matches,
        decided: decided.promise,
        reach() {
          there = true;
          reached.resolve();
        },
      };
      holds.add(armed);
      // A hold that nobody waits for any more must not count as an unhandled rejection.
      reached.promise.catch(() => undefined);
      ends.add((error) => {
        reached.reject(error);
        decided.resolve('drop');
      });
      const decide = (what: 'go' | 'drop') => {
        holds.delete(armed);
        decided.resolve(what);
      };
      return { reached: reached.promise, isReached: () => there, release: () => decide('go'), drop: () => decide('drop') };
    },
    refuse(code, matches) {
      const refusal = { code, matches };
      refusals.add(refusal);
      return () => refusals.delete(refusal);
    },
    onRequest(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    freezeWatches(part) {
      frozen.add(part);
      for (const { path, answer } of watches) if (path.includes(part)) answer.pause();
      return () => {
        frozen.delete(part);
        for (const { path, answer } of watches) if (path.includes(part)) answer.resume();
      };
    },
    async stop() {
      for (const end of ends) end(new Error('the gate stops'));
      const closed = new Promise<void>((resolve) => proxy.close(() => resolve()));
      proxy.closeAllConnections();
      await closed;
      agent.destroy();
    },
  };
}
