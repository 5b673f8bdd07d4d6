import { expect, test } from 'vitest';
import { toStatusError } from '../../../src/hub/http/errors.ts';
import { KubeError, KubeUnreachableError } from '../../../src/kube/errors.ts';
import { notFound } from '../../../src/kube/status.ts';

function told(error: unknown) {
  const logged: [string, unknown][] = [];
  const { status } = toStatusError(error, (id, what) => logged.push([id, what]));
  return { status, logged };
}
const kube = (code: number, more: object = {}) =>
  new KubeError(code, { kind: 'Status', apiVersion: 'v1', status: 'Failure', code, message: 'secret-canary', ...more });

test('a Status of ours stays as it is and is not logged', () => {
  const error = notFound({ group: 'g', kind: 'nodes', name: 'n' });
  expect(toStatusError(error, () => expect.unreachable())).toBe(error);
});

test.each([400, 406, 410, 413, 422])("kube-apiserver's %i is about the caller's own request and passes through", (code) => {
  const { status, logged } = told(kube(code, { reason: 'Why', message: 'too old' }));
  expect(status).toMatchObject({ code, reason: 'Why', message: 'too old' });
  expect(logged).toEqual([]);
});

test.each([
  [401, 500, 'InternalError'],
  [403, 500, 'InternalError'],
  [404, 500, 'InternalError'],
  [409, 500, 'InternalError'],
  [500, 503, 'ServiceUnavailable'],
  [503, 503, 'ServiceUnavailable'],
])("kube-apiserver's %i to the hub becomes %i: the hub's trouble, with an id that the log has too", (code, wanted, reason) => {
  const error = kube(code);
  const { status, logged } = told(error);
  expect(status).toMatchObject({ code: wanted, reason });
  expect(logged).toHaveLength(1);
  expect(logged[0]?.[1]).toBe(error);
  expect(status.message).toContain(logged[0]?.[0]);
  expect(status.message).not.toContain('canary');
});

test('busy and slow are passed on as such, with the time to wait', () => {
  expect(told(kube(429, { details: { retryAfterSeconds: 7 } })).status).toMatchObject({ code: 429, details: { retryAfterSeconds: 7 } });
  expect(told(kube(504)).status).toMatchObject({ code: 504, reason: 'Timeout' });
});

test('an API server that cannot be reached is 503; what nobody foresaw is 500, and neither says why', () => {
  for (const [error, code] of [
    [new KubeUnreachableError('GET https://10.0.0.1 token-canary', false, undefined), 503],
    [new Error('token-canary'), 500],
    ['token-canary', 500],
    [undefined, 500],
  ] as const) {
    const { status, logged } = told(error);
    expect(status.code).toBe(code);
    expect(JSON.stringify(status)).not.toMatch(/canary|10\.0\.0\.1/);
    expect(logged).toHaveLength(1);
  }
});

test('regression: a request whose time was over was answered 500 and logged as an internal error', async () => {
  const signal = AbortSignal.timeout(1);
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  expect(told(signal.reason)).toMatchObject({ status: { code: 504, reason: 'Timeout' }, logged: [] });
});
