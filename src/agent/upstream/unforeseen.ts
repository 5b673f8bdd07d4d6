import { randomUUID } from 'node:crypto';
import { TargetError } from '../../tunnel/target-error.ts';

/** What fails for one request fails for the next ones too: within this time, in milliseconds, the same goes into the log once, and all have its id. */
const SAME_MS = 10_000;
const LONGEST = 300;

/**
 * Makes what a caller is told of a failure inside of the agent (an exec plugin, a token file): an id, under which the log has the reason. A TargetError is for callers and stays as it is.
 */
export function unforeseen(onError: (error: unknown) => void): (error: unknown) => TargetError {
  let last = { reason: '', id: '', at: 0 };
  return (error) => {
    if (error instanceof TargetError) return error;
    const reason = reasonOf(error);
    const now = performance.now();
    if (reason !== last.reason || now - last.at > SAME_MS) {
      last = { reason, id: randomUUID(), at: now };
      onError(new Error(`a request failed in the agent (log id ${last.id}): ${reason}`, { cause: error }));
    }
    return new TargetError(502, `the request failed in the agent of this cluster (log id ${last.id})`, { cause: error });
  };
}

function reasonOf(error: unknown): string {
  // Such a message quotes the text, which may be a credential.
  if (error instanceof SyntaxError) return 'what an exec plugin or a file holds is malformed';
  return (error instanceof Error ? error.message : String(error)).replaceAll(/\s+/g, ' ').trim().slice(0, LONGEST);
}
