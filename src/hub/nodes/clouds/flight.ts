import type { Socket } from 'node:net';
import { connect as connectTCP } from 'node:net';
import { connect as connectTLS } from 'node:tls';
import { CloudError } from './cloud.ts';

/**
 * One request on its way to a cloud. `sent` turns true the moment bytes are handed to the kernel on a connected socket: before that, nothing can
 * have happened at the cloud; after it, only the cloud's answer can tell. `refused` holds what `beforeSend` threw.
 */
export type Flight = {
  readonly signal: AbortSignal;
  /** Undefined for requests without a side effect. */
  readonly beforeSend: (() => void) | undefined;
  sent: boolean;
  refused: { error: unknown } | undefined;
  /** Network error code of the connection, for example `ECONNREFUSED`; '' when it did not fail. */
  failure: string;
  /** Called when the connection is closed, after a whole answer or not. */
  closed?: () => void;
};

/** Where to connect. `ca` (PEM) replaces the system's certificate authorities. */
export type Target = { protocol: 'http:' | 'https:'; host: string; port: number; ca: string | undefined };

/** A connection that could not be made, or that ended before the whole answer came. `code` is Node's (`ECONNRESET`) or the reason in one word. */
export class TransportError extends Error {
  override name = 'TransportError';
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/** Where a URL points to. */
export function targetOf(url: URL, ca: string | undefined): Target {
  const protocol = url.protocol === 'http:' ? 'http:' : 'https:';
  return { protocol, host: url.hostname.replace(/^\[(.*)\]$/, '$1'), port: Number(url.port) || (protocol === 'https:' ? 443 : 80), ca };
}

/** What is wrong with a configured endpoint URL, undefined when nothing is. Plain http is taken for this machine only: it must not cross a network. */
export function endpointURLProblem(endpoint: string): string | undefined {
  const url = URL.parse(endpoint);
  if (!url) return 'must be a URL such as https://host[:port]';
  if (url.username || url.password || url.search || url.hash || url.pathname !== '/') return 'must hold only scheme, host and port';
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && isLoopback(targetOf(url, undefined).host)))
    return 'must be https (http only to this machine)';
  return undefined;
}

/** Whether a host name can only mean this machine (RFC 6761 for `localhost`). */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host.endsWith('.localhost') || host === '::1' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host);
}

/**
 * Connects (DNS, TCP, TLS) and only then hands the socket out. The socket asks `flight.beforeSend` at each write, in the same turn in which the
 * bytes go to the kernel: a process that was frozen while connecting asks again before anything leaves. A refusal destroys the socket unwritten.
 * Rejects with TransportError; follows `flight.signal` until the socket is closed.
 */
export function openConnection(target: Target, flight: Flight): Promise<Socket> {
  return new Promise((resolve, reject) => {
    if (flight.signal.aborted) {
      reject(new TransportError('ABORTED', 'stopped before connecting'));
      return;
    }
    const host = target.host.endsWith('.localhost') ? '127.0.0.1' : target.host;
    const socket =
      target.protocol === 'https:'
        ? connectTLS({
            host,
            port: target.port,
            ALPNProtocols: ['http/1.1'],
            ...(/^[\d.]+$|:/.test(target.host) ? {} : { servername: target.host }),
            ...(target.ca !== undefined && { ca: target.ca }),
          })
        : connectTCP({ host, port: target.port });
    const onAbort = () => socket.destroy(new TransportError('ABORTED', 'stopped'));
    flight.signal.addEventListener('abort', onAbort, { once: true });
    // Stays for the life of the socket: an error with no listener would end the process.
    socket.on('error', (error: NodeJS.ErrnoException) => {
      flight.failure ||= error.code ?? error.name;
      reject(
        new TransportError(error.code ?? error.name, `connection to ${target.host}:${target.port} failed: ${error.code ?? error.name}`),
      );
    });
    socket.once('close', () => {
      flight.signal.removeEventListener('abort', onAbort);
      reject(new TransportError('CLOSED', `connection to ${target.host}:${target.port} closed`));
      flight.closed?.();
    });
    socket.once(target.protocol === 'https:' ? 'secureConnect' : 'connect', () => {
      socket.setNoDelay(true);
      guardWrites(socket, flight);
      resolve(socket);
    });
  });
}

function guardWrites(socket: Socket, flight: Flight): void {
  const write = socket._write.bind(socket);
  const writev = socket._writev?.bind(socket);
  const allowed = (done: (error?: Error | null) => void): boolean => {
    try {
      if (flight.signal.aborted) throw new TransportError('ABORTED', 'stopped before sending');
      flight.beforeSend?.();
      flight.sent = true;
      return true;
    } catch (error) {
      if (!(error instanceof TransportError)) flight.refused = { error };
      done(error instanceof Error ? error : new TransportError('REFUSED', 'sending was refused'));
      return false;
    }
  };
  socket._write = (chunk, encoding, done) => {
    if (allowed(done)) write(chunk, encoding, done);
  };
  if (writev) {
    socket._writev = (chunks, done) => {
      if (allowed(done)) writev(chunks, done);
    };
  }
}

/** How long an attempt may go on after its connection closed: the answer is there by then and is only being parsed. */
const CLOSED_GRACE_MILLISECONDS = 1000;

/**
 * Runs one attempt under a time limit (milliseconds) and the caller's signal. When either ends it, rejects at once with a CloudError of kind
 * Transient (`Timeout` or `Aborted`), and the flight can no longer send. An error that `beforeSend` threw is thrown on untouched.
 * Other errors go through `explain`.
 */
export async function fly<T>(
  call: { signal: AbortSignal; beforeSend: (() => void) | undefined; timeoutMilliseconds: number; what: string },
  work: (flight: Flight) => Promise<T>,
  explain: (error: unknown, flight: Flight) => CloudError,
): Promise<T> {
  const ended = new AbortController();
  const timer = setTimeout(() => ended.abort(), call.timeoutMilliseconds);
  const onAbort = () => ended.abort();
  call.signal.addEventListener('abort', onAbort, { once: true });
  if (call.signal.aborted) ended.abort();
  // An SDK may wait for ever for the rest of an answer whose connection is gone.
  const gone = new AbortController();
  let grace: NodeJS.Timeout | undefined;
  const closed = () => {
    if (!ended.signal.aborted) grace ??= setTimeout(() => gone.abort(), CLOSED_GRACE_MILLISECONDS);
  };
  const flight: Flight = { signal: ended.signal, beforeSend: call.beforeSend, sent: false, refused: undefined, failure: '', closed };
  try {
    return await Promise.race([work(flight), rejectWhenAborted(ended.signal, 'ABORTED'), rejectWhenAborted(gone.signal, 'CLOSED')]);
  } catch (error) {
    if (flight.refused) throw flight.refused.error;
    if (error instanceof CloudError) throw error;
    if (!ended.signal.aborted) throw explain(error, flight);
    const mayHaveHappened = flight.sent && flight.beforeSend !== undefined;
    throw call.signal.aborted
      ? new CloudError('Transient', 'Aborted', `${call.what} was stopped before an answer came`, { mayHaveHappened })
      : new CloudError('Transient', 'Timeout', `${call.what} got no answer within ${call.timeoutMilliseconds / 1000} s`, {
          mayHaveHappened,
        });
  } finally {
    clearTimeout(timer);
    call.signal.removeEventListener('abort', onAbort);
    // Whatever still runs of this attempt (a credential lookup, a socket) must not send later.
    ended.abort();
    clearTimeout(grace);
  }
}

function rejectWhenAborted(signal: AbortSignal, code: string): Promise<never> {
  return new Promise((_resolve, reject) => {
    const stop = () => reject(new TransportError(code, 'stopped'));
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
  });
}
