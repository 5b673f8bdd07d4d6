import { expect } from 'vitest';
import type { CallContext } from '../../../../src/hub/nodes/clouds/cloud.ts';
import { CloudError } from '../../../../src/hub/nodes/clouds/cloud.ts';
import type { Account } from '../../../../src/hub/nodes/clouds/definition.ts';

/** An account without configuration, completed by what a test needs. */
export function account(cloud: string, rest: Partial<Account> = {}): Account {
  return { name: undefined, cloud, timeoutMilliseconds: 10_000, credentials: {}, match: {}, ...rest };
}

/** A call context that counts how often sending was asked for. */
export function context(beforeSend: () => void = () => undefined): CallContext & { asked: number; controller: AbortController } {
  const controller = new AbortController();
  const made = {
    controller,
    signal: controller.signal,
    asked: 0,
    beforeSend: () => {
      made.asked++;
      beforeSend();
    },
  };
  return made;
}

/** The CloudError that a call ends with. */
export async function failure(call: Promise<unknown>): Promise<CloudError> {
  const error = await call.then(
    () => undefined,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(CloudError);
  if (!(error instanceof CloudError)) throw new Error('unreachable');
  return error;
}
