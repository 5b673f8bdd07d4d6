import type { Duplex } from 'node:stream';
import { TargetError } from '../target-error.ts';
import { NOT_ALLOWED, readText } from './error-text.ts';
import { FRAME } from './frame.ts';
import type { Limits } from './limits.ts';
import { ProtocolError } from './protocol-error.ts';
import { type Session, type SessionCore, sessionLimits, startSession } from './session.ts';
import { splice } from './splice.ts';
import type { MessageTransport } from './transport.ts';
import type { Varint } from './varint.ts';

/**
 * Connects to a target that the hub asks for, when the agent's policy allows it. Rejects with a TargetError, whose message the hub gets (403 for what
 * is not allowed); of other errors the hub gets the message too, as they come from connecting. Stops when the signal is aborted.
 */
export type Connect = (target: { host: string; port: number }, signal: AbortSignal) => Promise<Duplex>;

/** Room for `tcp/`, the longest DNS name, and a port. */
const ADDRESS_BYTES = 264;

/** Reads `tcp/host:port`. IPv6 addresses stand in brackets, and come without. Undefined when it is anything else. */
export function parseAddress(payload: Buffer): { host: string; port: number } | undefined {
  if (payload.length > ADDRESS_BYTES) return;
  const { host, six, port } =
    /^tcp\/(?:\[(?<six>[0-9a-fA-F:.]{2,45})\]|(?<host>[\w.-]+)):(?<port>\d{1,5})$/.exec(payload.toString('latin1'))?.groups ?? {};
  const name = six ?? host;
  if (name === undefined || Number(port) < 1 || Number(port) > 65_535) return;
  return { host: name, port: Number(port) };
}

/** The agent's side: serves a clusternet hub. */
export function listenerSession(transport: MessageTransport, options: { connect: Connect; limits?: Partial<Limits> }): Session {
  const limits = sessionLimits(options.limits);

  const dial = async (stream: Duplex, address: string, target: { host: string; port: number }): Promise<void> => {
    const failed = (error: unknown) =>
      error instanceof TargetError ? error : new TargetError(502, `dial ${address}: ${error instanceof Error ? error.message : 'failed'}`);
    const controller = new AbortController();
    const timer = setTimeout(() => stream.destroy(new TargetError(504, `dial ${address}: i/o timeout`)), limits.dialMs);
    const gone = () => controller.abort();
    stream.once('close', gone);
    try {
      const socket = await options.connect(target, controller.signal);
      if (stream.destroyed) socket.on('error', () => {}).destroy();
      else splice(stream, socket, failed);
    } catch (error) {
      stream.destroy(failed(error));
    } finally {
      clearTimeout(timer);
      stream.off('close', gone);
    }
  };

  const connect = (core: SessionCore, id: Varint, payload: Buffer) => {
    if (core.has(id)) throw new ProtocolError('a connection was opened twice');
    const refuse = (text: string) => {
      core.send(id, FRAME.error, Buffer.from(text));
      return false;
    };
    const target = parseAddress(payload);
    if (!target) return refuse(`${NOT_ALLOWED}: not an address of the form tcp/host:port`);
    if (core.connections() >= limits.connections) return refuse('too many connections');
    const address = readText(payload);
    void dial(core.open(id, address), address, target);
    return true;
  };
  return startSession(transport, { limits, lingerMs: 0, connect });
}
