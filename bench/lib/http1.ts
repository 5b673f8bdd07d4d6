import { once } from 'node:events';
import { connect, type TLSSocket } from 'node:tls';

/** Where a load goes. PEM for `ca`, `cert`, `key`; `servername` when the certificate has another name than the URL. */
export type Target = {
  url: string;
  ca: string;
  cert?: string;
  key?: string;
  servername?: string;
  headers?: Record<string, string>;
};

/** One keep-alive connection that asks for one thing again and again. */
export type Connection = {
  /** Sends the request and resolves when the answer is whole. `bytes` are those of the body. Rejects when the connection breaks. */
  ask(): Promise<{ status: number; bytes: number }>;
  close(): void;
};

const CRLF = Buffer.from('\r\n');
const END_OF_HEAD = Buffer.from('\r\n\r\n');

type Parser = { status: number; bytes: number; push(data: Buffer): boolean };

/** Reads one answer of HTTP/1.1 and forgets its body: a measuring client must not be what is measured. Throws on what it does not know. */
function answerParser(): Parser {
  let state: 'head' | 'fixed' | 'size' | 'chunk' | 'trailer' = 'head';
  let text: Buffer = Buffer.alloc(0);
  let left = 0;
  const parser: Parser = { status: 0, bytes: 0, push };

  function head(block: string): void {
    const status = /^HTTP\/1\.1 (\d{3})/.exec(block)?.[1];
    if (status === undefined) throw new Error(`this is no answer of HTTP/1.1: ${block.slice(0, 80)}`);
    parser.status = Number(status);
    if (/\r\ntransfer-encoding: *chunked/i.test(block)) {
      state = 'size';
      return;
    }
    const length = /\r\ncontent-length: *(\d+)/i.exec(block)?.[1];
    if (length === undefined) throw new Error(`an answer without a length: ${block.slice(0, 200)}`);
    left = Number(length);
    state = 'fixed';
  }

  /** True when the answer is whole. */
  function push(data: Buffer): boolean {
    let rest: Buffer = data;
    for (;;) {
      if (state === 'fixed' || state === 'chunk') {
        const taken = Math.min(left, rest.length);
        left -= taken;
        parser.bytes += taken;
        rest = rest.subarray(taken);
        if (left > 0) return false;
        if (state === 'fixed') return true;
        parser.bytes -= CRLF.length;
        state = 'size';
      }
      if (text.length > 0) rest = Buffer.concat([text, rest]);
      const mark = state === 'head' ? END_OF_HEAD : CRLF;
      const end = rest.indexOf(mark);
      if (end < 0) {
        text = rest;
        return false;
      }
      const line = rest.toString('latin1', 0, end);
      rest = rest.subarray(end + mark.length);
      text = Buffer.alloc(0);
      if (state === 'head') head(line);
      else if (state === 'trailer') {
        if (line === '') return true;
      } else {
        left = Number.parseInt(line, 16);
        if (Number.isNaN(left)) throw new Error(`this is no size of a chunk: ${line.slice(0, 40)}`);
        // A chunk ends with CRLF.
        state = left === 0 ? 'trailer' : 'chunk';
        left += CRLF.length;
      }
    }
  }
  return parser;
}

/** Opens a connection. Rejects when it cannot be opened or its certificate is not that of the target. */
export async function openConnection(target: Target): Promise<Connection> {
  const { url, ca, cert, key, servername, headers = {} } = target;
  const { hostname, port, host, pathname, search } = new URL(url);
  const identity = cert === undefined || key === undefined ? {} : { cert, key };
  const socket: TLSSocket = connect({
    host: hostname,
    port: Number(port),
    ca,
    ...identity,
    ALPNProtocols: ['http/1.1'],
    ...(servername === undefined ? {} : { servername }),
  });
  socket.setNoDelay(true);
  await once(socket, 'secureConnect');
  const lines = Object.entries({ host, accept: 'application/json', ...headers }).map(([name, value]) => `${name}: ${value}\r\n`);
  const request = Buffer.from(`GET ${pathname}${search} HTTP/1.1\r\n${lines.join('')}\r\n`, 'latin1');

  let waiting: { parser: Parser; resolve: (answer: { status: number; bytes: number }) => void; reject: (error: Error) => void } | undefined;
  let broken: Error | undefined;
  const fail = (error: Error) => {
    broken ??= error;
    waiting?.reject(error);
    waiting = undefined;
    socket.destroy();
  };
  socket.on('error', fail);
  socket.on('close', () => fail(new Error('the connection was closed')));
  socket.on('data', (data: Buffer) => {
    if (!waiting) return fail(new Error('bytes came that nobody asked for'));
    try {
      if (!waiting.parser.push(data)) return;
    } catch (error) {
      return fail(error instanceof Error ? error : new Error(String(error)));
    }
    const { parser, resolve } = waiting;
    waiting = undefined;
    resolve({ status: parser.status, bytes: parser.bytes });
  });
  return {
    ask: () =>
      new Promise((resolve, reject) => {
        if (broken) return reject(broken);
        waiting = { parser: answerParser(), resolve, reject };
        socket.write(request);
      }),
    close: () => socket.destroy(),
  };
}
