import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { alibaba } from '../../../../src/hub/nodes/clouds/alibaba.ts';
import type { Account } from '../../../../src/hub/nodes/clouds/definition.ts';
import type { AlibabaEndpoint } from '../../../endpoints/alibaba.ts';
import { startAlibaba } from '../../../endpoints/alibaba.ts';
import { selfSigned } from '../../../endpoints/self-signed.ts';
import { account, context, failure } from './call.ts';

const ID = 'i-bp1azkttqpldxgted0ab';
const ref = { cloud: 'alibaba', account: undefined, region: 'cn-hangzhou', zone: '', instanceID: ID };
const SOFT = { mode: 'soft', dryRun: false } as const;

let endpoint: AlibabaEndpoint;
let secret: string;
let environment: Record<string, string>;

beforeEach(async () => {
  secret = randomUUID().replaceAll('-', '').slice(0, 30);
  environment = { ID: 'LTAIexample', SECRET: secret };
  endpoint = await startAlibaba({ keys: new Map([['LTAIexample', { secret }]]) });
  endpoint.instances.set(ID, { Status: 'Running', region: 'cn-hangzhou' });
});
afterEach(() => endpoint.close());

function connect(rest: Partial<Account> = {}) {
  return alibaba.connect(
    account('alibaba', { endpoint: endpoint.url, credentials: { env: { id: 'ID', secret: 'SECRET' } }, ...rest }),
    environment,
  );
}

const effects = () => endpoint.calls.filter((c) => c.effect).length;

describe('calls', () => {
  test('describe', async () => {
    expect(await connect().describe(ref, context())).toEqual({
      powerState: 'Running',
      providerState: 'Running',
      type: 'ecs.g7.large',
      addresses: [
        { type: 'InternalIP', address: '172.16.0.4' },
        { type: 'ExternalIP', address: '203.0.113.7' },
      ],
      launchTime: '2026-11-01T00:00:00.000Z',
      image: 'aliyun_3_x64',
    });
  });

  test('restart soft and hard, stop, start: parameters, and sending asked once for each', async () => {
    const cloud = connect();
    const call = context();
    await cloud.restart(ref, SOFT, call);
    await cloud.restart(ref, { mode: 'hard', dryRun: false }, call);
    await cloud.stop(ref, { mode: 'hard', dryRun: false }, call);
    expect((await cloud.describe(ref, call)).powerState).toBe('Stopped');
    await cloud.start(ref, { dryRun: false }, call);
    expect(endpoint.calls.filter((c) => c.effect).map((c) => [c.action, c.parameters])).toEqual([
      ['RebootInstance', { InstanceId: ID, ForceStop: 'false' }],
      ['RebootInstance', { InstanceId: ID, ForceStop: 'true' }],
      ['StopInstance', { InstanceId: ID, ForceStop: 'true', StoppedMode: 'KeepCharging' }],
      ['StartInstance', { InstanceId: ID }],
    ]);
    expect(call.asked).toBe(4);
  });

  test("a dry run is the cloud's own, and changes nothing", async () => {
    const call = context();
    await connect().restart(ref, { mode: 'soft', dryRun: true }, call);
    await connect().stop(ref, { mode: 'hard', dryRun: true }, call);
    expect(endpoint.calls.map((c) => c.error)).toEqual(['DryRunOperation', 'DryRunOperation']);
    expect([call.asked, effects()]).toEqual([0, 0]);
    expect(await failure(connect().start(ref, { dryRun: true }, call))).toMatchObject({
      kind: 'Conflict',
      code: 'IncorrectInstanceStatus',
    });
  });
});

describe('refusals', () => {
  test('wrong region and unknown instance are NotFound', async () => {
    expect((await failure(connect().describe({ ...ref, region: 'cn-beijing' }, context()))).kind).toBe('NotFound');
    expect(await failure(connect().restart({ ...ref, instanceID: 'i-bp1zzzzzzzzzzzzzzzzz' }, SOFT, context()))).toMatchObject({
      kind: 'NotFound',
      mayHaveHappened: false,
    });
  });
  test('wrong state is Conflict', async () => {
    endpoint.instances.set(ID, { Status: 'Stopped', region: 'cn-hangzhou' });
    const error = await failure(connect().restart(ref, SOFT, context()));
    expect(error).toMatchObject({ kind: 'Conflict', code: 'IncorrectInstanceStatus', mayHaveHappened: false });
    expect(error.requestID).toMatch(/^[0-9a-f-]{36}$/);
  });
  test('a wrong secret is Forbidden, and the echoed signature is not shown', async () => {
    environment['SECRET'] = 'wrong';
    const error = await failure(connect().restart(ref, SOFT, context()));
    expect(error).toMatchObject({ kind: 'Forbidden', code: 'SignatureDoesNotMatch' });
    expect(error.message).not.toMatch(/[0-9a-f]{64}/);
    expect(error.message).not.toContain('LTAIexample');
  });
  const rows: [status: number, code: string, kind: string, mayHaveHappened: boolean][] = [
    [400, 'Throttling', 'Throttled', false],
    [429, 'Throttling.User', 'Throttled', false],
    [503, 'Throttling.Api', 'Throttled', false],
    [403, 'Forbidden.RAM', 'Forbidden', false],
    [403, 'OperationDenied', 'Forbidden', false],
    [403, 'InstanceLockedForSecurity', 'Forbidden', false],
    [403, 'IncorrectInstanceStatus.Initializing', 'Conflict', false],
    [409, 'OperationConflict', 'Conflict', false],
    [400, 'InvalidParameter', 'Invalid', false],
    [404, 'CodeOfTheFuture', 'Invalid', false],
    [403, 'OperationDenied.NoStock', 'Transient', false],
    [500, 'InternalError', 'Transient', true],
    [503, 'ServiceUnavailable', 'Transient', true],
    [500, 'CodeOfTheFuture', 'Transient', true],
  ];
  test.each(rows)('%i %s is %s, may have happened: %s', async (status, code, kind, mayHaveHappened) => {
    endpoint.inject('RebootInstance', { kind: 'refuse', status, code });
    expect(await failure(connect().restart(ref, SOFT, context()))).toMatchObject({ kind, code, mayHaveHappened });
  });
  test('the wait that throttling asks for is kept', async () => {
    endpoint.inject('RebootInstance', {
      kind: 'refuse',
      status: 429,
      code: 'Throttling.User',
      headers: { 'x-ratelimit-user-api': 'Limit:10,Remain:0,TimeLeft:17300' },
    });
    expect((await failure(connect().restart(ref, SOFT, context()))).retryAfterSeconds).toBe(18);
  });
  test('a redirect is not followed', async () => {
    endpoint.inject('RebootInstance', { kind: 'raw', status: 307, body: '', headers: { location: `${endpoint.url}/` } });
    expect(await failure(connect().restart(ref, SOFT, context()))).toMatchObject({ kind: 'Invalid', mayHaveHappened: false });
    expect(endpoint.calls).toHaveLength(1);
  });
});

describe('lost answers', () => {
  test.each(['cut-before-effect', 'cut-after-effect', 'half-answer'] as const)(
    '%s: may have happened, one call, no retry',
    async (kind) => {
      endpoint.inject('RebootInstance', { kind });
      expect(await failure(connect().restart(ref, SOFT, context()))).toMatchObject({ kind: 'Transient', mayHaveHappened: true });
      expect(endpoint.calls).toHaveLength(1);
      expect(effects()).toBe(kind === 'cut-before-effect' ? 0 : 1);
      endpoint.inject('DescribeInstances', { kind });
      expect(await failure(connect().describe(ref, context()))).toMatchObject({ kind: 'Transient', mayHaveHappened: false });
    },
  );
  test.each([
    [200, 'not json', 'Transient', true],
    [502, '<html>', 'Transient', true],
    [403, '<html>', 'Invalid', false],
  ] as const)('HTTP %i %s', async (status, body, kind, mayHaveHappened) => {
    endpoint.inject('RebootInstance', { kind: 'raw', status, body });
    expect(await failure(connect().restart(ref, SOFT, context()))).toMatchObject({ kind, mayHaveHappened });
  });
  test('no answer within the time limit', async () => {
    endpoint.inject('RebootInstance', { kind: 'slow', milliseconds: 60_000 });
    const error = await failure(connect({ timeoutMilliseconds: 300 }).restart(ref, SOFT, context()));
    expect(error).toMatchObject({ kind: 'Transient', code: 'Timeout', mayHaveHappened: true });
  });
});

describe('nothing was sent', () => {
  test('the caller lost the right to act', async () => {
    const lost = new Error('lease lost');
    const call = context(() => {
      throw lost;
    });
    await expect(connect().restart(ref, SOFT, call)).rejects.toBe(lost);
    expect(endpoint.calls).toEqual([]);
  });
  test('connection refused', async () => {
    const closed = endpoint.url;
    await endpoint.close();
    expect(await failure(connect({ endpoint: closed }).restart(ref, SOFT, context()))).toMatchObject({
      code: 'ECONNREFUSED',
      mayHaveHappened: false,
    });
  });
  test('TLS: an untrusted certificate is refused, one of the configured authority is taken', async () => {
    const tls = selfSigned('localhost');
    const secure = await startAlibaba({ keys: new Map([['LTAIexample', { secret }]]), tls });
    try {
      secure.instances.set(ID, { Status: 'Running', region: 'cn-hangzhou' });
      expect(await failure(connect({ endpoint: secure.url }).restart(ref, SOFT, context()))).toMatchObject({ mayHaveHappened: false });
      expect(secure.calls).toEqual([]);
      await connect({ endpoint: secure.url, ca: tls.cert }).restart(ref, SOFT, context());
      expect(secure.calls.map((c) => c.effect)).toEqual([true]);
    } finally {
      await secure.close();
    }
  });
});
