import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EC2Client, RunInstancesCommand } from '@aws-sdk/client-ec2';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { aws } from '../../../../src/hub/nodes/clouds/aws.ts';
import type { Account } from '../../../../src/hub/nodes/clouds/definition.ts';
import type { FaultProxy } from '../../../endpoints/fault-proxy.ts';
import { startFaultProxy } from '../../../endpoints/fault-proxy.ts';
import type { Moto } from '../../../endpoints/moto.ts';
import { startMoto } from '../../../endpoints/moto.ts';
import { account, context, failure } from './call.ts';

const SOFT = { mode: 'soft', dryRun: false } as const;

let moto: Moto;
let proxy: FaultProxy;
let folder: string;
let instanceID: string;

beforeAll(async () => {
  moto = await startMoto();
}, 600_000);
afterAll(() => moto.close());

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'aws-'));
  proxy = await startFaultProxy(moto.port);
  // Nothing of the developer's own AWS configuration may take part.
  for (const name of Object.keys(process.env).filter((n) => n.startsWith('AWS_'))) vi.stubEnv(name, undefined);
  vi.stubEnv('AWS_EC2_METADATA_DISABLED', 'true');
  vi.stubEnv('AWS_CONFIG_FILE', join(folder, 'config'));
  vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', join(folder, 'credentials'));
  vi.stubEnv('AWS_ENDPOINT_URL_EC2', proxy.url);
  vi.stubEnv('AWS_ENDPOINT_URL_STS', proxy.url);
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'AKIAEXAMPLE');
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', randomUUID());
  const client = new EC2Client({ region: 'us-east-1', endpoint: moto.url });
  const made = await client.send(new RunInstancesCommand({ ImageId: 'ami-12c6146b', InstanceType: 't3.micro', MinCount: 1, MaxCount: 1 }));
  instanceID = made.Instances?.[0]?.InstanceId ?? '';
  client.destroy();
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await proxy.close();
  await rm(folder, { recursive: true });
});

const ref = (region = 'us-east-1') => ({ cloud: 'aws', account: undefined, region, zone: `${region}a`, instanceID });
const connect = (rest: Partial<Account> = {}) => aws.connect(account('aws', rest), {});
const arrived = (action: string) => proxy.forwarded.filter((request) => request.includes(`Action=${action}`)).length;
const refusal = (status: string, code: string, message = 'injected', headers = '') => {
  const body = `<?xml version="1.0"?><Response><Errors><Error><Code>${code}</Code><Message>${message}</Message></Error></Errors><RequestID>r-1</RequestID></Response>`;
  return `HTTP/1.1 ${status}\r\ncontent-type: text/xml\r\ncontent-length: ${body.length}\r\n${headers}connection: close\r\n\r\n${body}`;
};

describe('calls', () => {
  test('describe', async () => {
    const found = await connect().describe(ref(), context());
    expect(found).toMatchObject({ powerState: 'Running', providerState: 'running', type: 't3.micro', image: 'ami-12c6146b' });
    expect(found.addresses).toContainEqual({ type: 'InternalIP', address: expect.stringMatching(/^10\./) });
    expect(Date.parse(found.launchTime ?? '')).toBeGreaterThan(0);
  });

  test('restart, stop with force, start: sending asked once for each', async () => {
    const cloud = connect();
    const call = context();
    await cloud.restart(ref(), SOFT, call);
    await cloud.stop(ref(), { mode: 'hard', dryRun: false }, call);
    expect((await cloud.describe(ref(), call)).powerState).toBe('Stopped');
    expect(proxy.forwarded.find((r) => r.includes('Action=StopInstances'))).toContain('Force=true');
    await cloud.start(ref(), { dryRun: false }, call);
    expect((await cloud.describe(ref(), call)).powerState).toBe('Running');
    expect([arrived('RebootInstances'), arrived('StopInstances'), arrived('StartInstances')]).toEqual([1, 1, 1]);
    expect(call.asked).toBe(3);
  });

  test("a dry run is EC2's own, and changes nothing", async () => {
    const call = context();
    await connect().restart(ref(), { mode: 'soft', dryRun: true }, call);
    await connect().stop(ref(), { mode: 'hard', dryRun: true }, call);
    expect(proxy.forwarded.filter((r) => r.includes('DryRun=true'))).toHaveLength(2);
    expect((await connect().describe(ref(), call)).powerState).toBe('Running');
    expect(call.asked).toBe(0);
  });

  test('a hard restart is refused before anything is sent', async () => {
    expect(connect().hardRestart).toBe(false);
    expect(await failure(connect().restart(ref(), { mode: 'hard', dryRun: false }, context()))).toMatchObject({
      kind: 'Invalid',
      code: 'NoHardRestart',
    });
    expect(proxy.forwarded).toEqual([]);
  });
});

describe('refusals of moto', () => {
  test('wrong region and unknown instance are NotFound', async () => {
    expect(await failure(connect().restart(ref('us-west-2'), SOFT, context()))).toMatchObject({ kind: 'NotFound', mayHaveHappened: false });
    const unknown = { ...ref(), instanceID: 'i-00000000000000000' };
    expect(await failure(connect().describe(unknown, context()))).toMatchObject({ kind: 'NotFound', code: 'InvalidInstanceID.NotFound' });
  });

  test('a key that moto does not know is Forbidden', async () => {
    const setAuthentication = (free: string) => fetch(`${moto.url}/moto-api/reset-auth`, { method: 'POST', body: free });
    await setAuthentication('0');
    try {
      const error = await failure(connect().restart(ref(), SOFT, context()));
      expect(error).toMatchObject({ kind: 'Forbidden', code: 'AuthFailure', mayHaveHappened: false });
    } finally {
      await setAuthentication('inf');
    }
  });
});

describe('error codes', () => {
  const rows: [status: string, code: string, kind: string, mayHaveHappened: boolean][] = [
    ['503 x', 'RequestLimitExceeded', 'Throttled', false],
    ['400 x', 'Throttling', 'Throttled', false],
    ['403 x', 'UnauthorizedOperation', 'Forbidden', false],
    ['401 x', 'AuthFailure', 'Forbidden', false],
    ['400 x', 'RequestExpired', 'Forbidden', false],
    ['400 x', 'IncorrectInstanceState', 'Conflict', false],
    ['400 x', 'InvalidInstanceID.Malformed', 'Invalid', false],
    ['400 x', 'CodeOfTheFuture', 'Invalid', false],
    ['500 x', 'InsufficientInstanceCapacity', 'Transient', false],
    ['500 x', 'InternalError', 'Transient', true],
    ['503 x', 'Unavailable', 'Transient', true],
    ['500 x', 'CodeOfTheFuture', 'Transient', true],
  ];
  test.each(rows)('%s %s is %s, may have happened: %s; no retry', async (status, code, kind, mayHaveHappened) => {
    proxy.inject({ match: 'Action=RebootInstances', kind: 'answer', bytes: refusal(status, code) });
    expect(await failure(connect().restart(ref(), SOFT, context()))).toMatchObject({ kind, code, mayHaveHappened });
    expect(arrived('RebootInstances')).toBe(1);
  });
  test('the wait that throttling asks for is kept', async () => {
    proxy.inject({
      match: 'Action=Reboot',
      kind: 'answer',
      bytes: refusal('503 x', 'RequestLimitExceeded', 'slow down', 'retry-after: 17\r\n'),
    });
    expect((await failure(connect().restart(ref(), SOFT, context()))).retryAfterSeconds).toBe(17);
  });
  test.each([
    ['502 Bad Gateway', 'Transient', true],
    ['200 OK', 'Transient', true],
  ] as const)('%s with a page that is no answer of EC2', async (status, kind, mayHaveHappened) => {
    const bytes = `HTTP/1.1 ${status}\r\ncontent-length: 13\r\nconnection: close\r\n\r\n<html>oops</h`;
    proxy.inject({ match: 'Action=RebootInstances', kind: 'answer', bytes });
    expect(await failure(connect().restart(ref(), SOFT, context()))).toMatchObject({ kind, mayHaveHappened });
    expect(arrived('RebootInstances')).toBe(1);
  });
});

describe('lost answers', () => {
  test('reset before and after it reached EC2: may have happened, no retry', async () => {
    for (const kind of ['cut-request', 'cut-answer'] as const) {
      proxy.inject({ match: 'Action=StopInstances', kind });
      expect(await failure(connect().stop(ref(), SOFT, context()))).toMatchObject({ kind: 'Transient', mayHaveHappened: true });
      expect(arrived('StopInstances')).toBe(kind === 'cut-request' ? 0 : 1);
    }
    expect((await connect().describe(ref(), context())).powerState).toBe('Stopped');
  });
  test('half an answer', async () => {
    const bytes = 'HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n<RebootInst';
    proxy.inject({ match: 'Action=RebootInstances', kind: 'answer', bytes });
    expect(await failure(connect().restart(ref(), SOFT, context()))).toMatchObject({ kind: 'Transient', mayHaveHappened: true });
    proxy.inject({ match: 'Action=DescribeInstances', kind: 'answer', bytes });
    expect(await failure(connect().describe(ref(), context()))).toMatchObject({ kind: 'Transient', mayHaveHappened: false });
  });
  test('no answer within the time limit, and stopped by the caller', async () => {
    proxy.inject({ match: 'Action=RebootInstances', kind: 'hold-answer' });
    const slow = await failure(connect({ timeoutMilliseconds: 500 }).restart(ref(), SOFT, context()));
    expect(slow).toMatchObject({ code: 'Timeout', mayHaveHappened: true });
    proxy.inject({ match: 'Action=RebootInstances', kind: 'hold-answer' });
    const call = context();
    const running = failure(connect().restart(ref(), SOFT, call));
    await vi.waitFor(() => expect(arrived('RebootInstances')).toBe(2));
    call.controller.abort();
    expect(await running).toMatchObject({ code: 'Aborted', mayHaveHappened: true });
  });
});

describe('nothing was sent', () => {
  test('the caller lost the right to act: its error comes out', async () => {
    const lost = new Error('lease lost');
    const call = context(() => {
      throw lost;
    });
    await expect(connect().restart(ref(), SOFT, call)).rejects.toBe(lost);
    expect(proxy.forwarded).toEqual([]);
  });
  test('connection refused', async () => {
    await proxy.close();
    const call = context();
    expect(await failure(connect().restart(ref(), SOFT, call))).toMatchObject({
      kind: 'Transient',
      code: 'ECONNREFUSED',
      mayHaveHappened: false,
    });
    expect(call.asked).toBe(0);
  });
  test('no credentials', async () => {
    vi.stubEnv('AWS_ACCESS_KEY_ID', undefined);
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', undefined);
    expect(await failure(connect().restart(ref(), SOFT, context()))).toMatchObject({
      kind: 'Forbidden',
      code: 'NoCredentials',
      mayHaveHappened: false,
    });
    expect(proxy.forwarded).toEqual([]);
  });
});
