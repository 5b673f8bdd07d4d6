import { randomUUID } from 'node:crypto';
import type { Socket } from 'node:net';
import { createServer } from 'node:net';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Account } from '../../../../src/hub/nodes/clouds/definition.ts';
import { tencent } from '../../../../src/hub/nodes/clouds/tencent.ts';
import { selfSigned } from '../../../endpoints/self-signed.ts';
import type { TencentEndpoint } from '../../../endpoints/tencent.ts';
import { startTencent } from '../../../endpoints/tencent.ts';
import { account, context, failure } from './call.ts';

const ID = 'ins-abcd1234';
const ref = { cloud: 'tencent', account: undefined, region: 'ap-guangzhou', zone: '800000', instanceID: ID };
const SOFT = { mode: 'soft', dryRun: false } as const;

let endpoint: TencentEndpoint;
let secret: string;
let environment: Record<string, string>;

beforeEach(async () => {
  secret = randomUUID().replaceAll('-', '');
  environment = { TENCENTCLOUD_SECRET_ID: 'AKIDexample', TENCENTCLOUD_SECRET_KEY: secret };
  endpoint = await startTencent({ keys: new Map([['AKIDexample', { secret }]]) });
  endpoint.instances.set(ID, { InstanceState: 'RUNNING', region: 'ap-guangzhou' });
});
afterEach(() => endpoint.close());

function connect(rest: Partial<Account> = {}) {
  return tencent.connect(account('tencent', { endpoint: endpoint.url, ...rest }), environment);
}

const effects = () => endpoint.calls.filter((c) => c.effect).length;

describe('calls', () => {
  test('describe', async () => {
    expect(await connect().describe(ref, context())).toEqual({
      powerState: 'Running',
      providerState: 'RUNNING',
      type: 'S5.MEDIUM4',
      addresses: [{ type: 'InternalIP', address: '10.0.0.9' }],
      launchTime: '2026-11-01T00:00:00Z',
      image: 'img-00000001',
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
      ['RebootInstances', { InstanceIds: [ID], StopType: 'SOFT' }],
      ['RebootInstances', { InstanceIds: [ID], StopType: 'HARD' }],
      ['StopInstances', { InstanceIds: [ID], StopType: 'HARD', StoppedMode: 'KEEP_CHARGING' }],
      ['StartInstances', { InstanceIds: [ID] }],
    ]);
    expect(call.asked).toBe(4);
  });

  test('a dry run describes and changes nothing', async () => {
    const call = context();
    await connect().restart(ref, { mode: 'hard', dryRun: true }, call);
    await connect().stop(ref, { mode: 'soft', dryRun: true }, call);
    expect(endpoint.calls.map((c) => c.action)).toEqual(['DescribeInstances', 'DescribeInstances']);
    expect(call.asked).toBe(0);
    endpoint.instances.clear();
    expect((await failure(connect().start(ref, { dryRun: true }, call))).kind).toBe('NotFound');
  });
});

describe('refusals of the endpoint itself', () => {
  test('wrong region and unknown instance are NotFound', async () => {
    expect(await failure(connect().restart({ ...ref, region: 'ap-shanghai' }, SOFT, context()))).toMatchObject({
      kind: 'NotFound',
      mayHaveHappened: false,
    });
    expect(await failure(connect().describe({ ...ref, instanceID: 'ins-zzzz9999' }, context()))).toMatchObject({
      kind: 'NotFound',
      code: 'InvalidInstanceId.NotFound',
    });
  });
  test('wrong state is Conflict', async () => {
    endpoint.instances.set(ID, { InstanceState: 'STOPPED', region: 'ap-guangzhou' });
    const error = await failure(connect().restart(ref, SOFT, context()));
    expect(error).toMatchObject({ kind: 'Conflict', code: 'UnsupportedOperation.InstanceStateStopped', mayHaveHappened: false });
    expect(error.requestID).toMatch(/^[0-9a-f-]{36}$/);
  });
  test('a wrong secret is Forbidden', async () => {
    environment['TENCENTCLOUD_SECRET_KEY'] = 'wrong';
    expect(await failure(connect().restart(ref, SOFT, context()))).toMatchObject({
      kind: 'Forbidden',
      code: 'AuthFailure.SignatureFailure',
    });
  });
  test('a clock that is an hour off is Forbidden', async () => {
    const now = Date.now();
    vi.spyOn(Date, 'now').mockImplementation(() => now + 3_600_000);
    try {
      expect(await failure(connect().restart(ref, SOFT, context()))).toMatchObject({
        kind: 'Forbidden',
        code: 'AuthFailure.SignatureExpire',
      });
    } finally {
      vi.restoreAllMocks();
    }
  });
  test('an unknown region is Invalid', async () => {
    expect(await failure(connect().restart({ ...ref, region: 'ap-nowhere' }, SOFT, context()))).toMatchObject({
      kind: 'Invalid',
      code: 'UnsupportedRegion',
    });
  });
});

describe('error codes', () => {
  const rows: [code: string, kind: string, mayHaveHappened: boolean][] = [
    ['RequestLimitExceeded', 'Throttled', false],
    ['RequestLimitExceeded.UinLimitExceeded', 'Throttled', false],
    ['UnauthorizedOperation', 'Forbidden', false],
    ['UnauthorizedOperation.MFAExpired', 'Forbidden', false],
    ['AuthFailure.UnauthorizedOperation', 'Forbidden', false],
    ['InvalidInstanceId.Malformed', 'Invalid', false],
    ['InvalidParameterValue', 'Invalid', false],
    ['UnsupportedOperation.InstanceStateRebooting', 'Conflict', false],
    ['UnsupportedOperation', 'Invalid', false],
    ['MutexOperation.TaskRunning', 'Conflict', false],
    ['ResourceInsufficient.CloudDiskSoldOut', 'Transient', false],
    ['InternalError', 'Transient', true],
    ['InternalServerError', 'Transient', true],
    ['FailedOperation.SomethingNew', 'Transient', true],
    ['CodeOfTheFuture', 'Transient', true],
  ];
  test.each(rows)('%s is %s, may have happened: %s', async (code, kind, mayHaveHappened) => {
    endpoint.inject('RebootInstances', { kind: 'refuse', status: 200, code });
    const error = await failure(connect().restart(ref, SOFT, context()));
    expect(error).toMatchObject({ kind, code, mayHaveHappened });
    if (kind === 'Throttled') expect(error.retryAfterSeconds).toBeGreaterThan(0);
  });
  test.each([
    [502, 'Transient', true],
    [503, 'Transient', true],
    [403, 'Invalid', false],
    [429, 'Throttled', false],
  ] as const)('HTTP %i without a code is %s', async (status, kind, mayHaveHappened) => {
    endpoint.inject('RebootInstances', { kind: 'raw', status, body: '<html>' });
    expect(await failure(connect().restart(ref, SOFT, context()))).toMatchObject({ kind, mayHaveHappened });
    expect(effects()).toBe(0);
  });
});

describe('lost answers', () => {
  test('a redirect that the SDK would follow is not followed', async () => {
    endpoint.inject('RebootInstances', { kind: 'raw', status: 307, body: '', headers: { location: `${endpoint.url}/` } });
    expect(await failure(connect().restart(ref, SOFT, context()))).toMatchObject({ kind: 'Transient', mayHaveHappened: true });
    expect(endpoint.calls).toHaveLength(1);
    expect(effects()).toBe(0);
  });
  test('cut before the effect: may have happened, one call, no retry', async () => {
    endpoint.inject('RebootInstances', { kind: 'cut-before-effect' });
    expect(await failure(connect().restart(ref, SOFT, context()))).toMatchObject({ kind: 'Transient', mayHaveHappened: true });
    expect(endpoint.calls).toHaveLength(1);
  });
  test('cut after the effect: may have happened, one effect', async () => {
    endpoint.inject('RebootInstances', { kind: 'cut-after-effect' });
    expect(await failure(connect().restart(ref, SOFT, context()))).toMatchObject({ kind: 'Transient', mayHaveHappened: true });
    expect(effects()).toBe(1);
  });
  test.each([{ kind: 'half-answer' } as const, { kind: 'raw', status: 200, body: 'not json' } as const])(
    '$kind: may have happened',
    async (fault) => {
      endpoint.inject('RebootInstances', fault);
      expect(await failure(connect().restart(ref, SOFT, context()))).toMatchObject({ kind: 'Transient', mayHaveHappened: true });
      endpoint.inject('DescribeInstances', fault);
      expect(await failure(connect().describe(ref, context()))).toMatchObject({ kind: 'Transient', mayHaveHappened: false });
    },
  );
  test('no answer within the time limit', async () => {
    endpoint.inject('RebootInstances', { kind: 'slow', milliseconds: 60_000 });
    const error = await failure(connect({ timeoutMilliseconds: 300 }).restart(ref, SOFT, context()));
    expect(error).toMatchObject({ kind: 'Transient', code: 'Timeout', mayHaveHappened: true });
    expect(effects()).toBe(1);
  });
  test('stopped by the caller after sending, and before', async () => {
    endpoint.inject('RebootInstances', { kind: 'slow', milliseconds: 60_000 });
    const call = context();
    const running = failure(connect().restart(ref, SOFT, call));
    await vi.waitFor(() => expect(effects()).toBe(1));
    call.controller.abort();
    expect(await running).toMatchObject({ code: 'Aborted', mayHaveHappened: true });
    expect(await failure(connect().restart(ref, SOFT, call))).toMatchObject({ code: 'Aborted', mayHaveHappened: false });
    expect(effects()).toBe(1);
  });
});

describe('nothing was sent', () => {
  test('the caller lost the right to act: its error comes out, no request arrives', async () => {
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
    const call = context();
    expect(await failure(connect({ endpoint: closed }).restart(ref, SOFT, call))).toMatchObject({
      code: 'ECONNREFUSED',
      mayHaveHappened: false,
    });
    expect(call.asked).toBe(0);
  });
  test('unknown host', async () => {
    const error = await failure(connect({ endpoint: 'https://cvm.host.invalid' }).restart(ref, SOFT, context()));
    expect(error).toMatchObject({ kind: 'Transient', mayHaveHappened: false });
  });
  test('a server that never finishes the TLS handshake', async () => {
    const accepted: Socket[] = [];
    const silent = createServer((socket) => accepted.push(socket));
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const address = silent.address();
    if (address === null || typeof address === 'string') throw new Error('no port');
    try {
      const call = context();
      const cloud = connect({ endpoint: `https://cvm.localhost:${address.port}`, timeoutMilliseconds: 300 });
      expect(await failure(cloud.restart(ref, SOFT, call))).toMatchObject({ code: 'Timeout', mayHaveHappened: false });
      expect(call.asked).toBe(0);
    } finally {
      for (const socket of accepted) socket.destroy();
      await new Promise((resolve) => silent.close(resolve));
    }
  });
  test('TLS: an untrusted certificate is refused, one of the configured authority is taken', async () => {
    const tls = selfSigned('cvm.localhost');
    const secure = await startTencent({ keys: new Map([['AKIDexample', { secret }]]), tls });
    try {
      secure.instances.set(ID, { InstanceState: 'RUNNING', region: 'ap-guangzhou' });
      const untrusted = await failure(connect({ endpoint: secure.url }).restart(ref, SOFT, context()));
      expect(untrusted).toMatchObject({ kind: 'Transient', mayHaveHappened: false });
      expect(untrusted.code).toMatch(/CERT/);
      expect(secure.calls).toEqual([]);
      await connect({ endpoint: secure.url, ca: tls.cert }).restart(ref, SOFT, context());
      expect(secure.calls.map((c) => c.effect)).toEqual([true]);
    } finally {
      await secure.close();
    }
  });
});
