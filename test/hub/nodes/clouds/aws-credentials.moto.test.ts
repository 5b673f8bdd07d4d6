import { randomUUID } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
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

describe('credentials', () => {
  const ROLE = 'arn:aws:iam::123456789012:role/restart-nodes';
  const assumedKey = (action: string) =>
    proxy.forwarded.filter((r) => r.includes(`Action=${action}`)).map((r) => /Credential=(\w+)/.exec(r)?.[1]);

  test('web identity from the environment (IRSA): STS is asked without a signature, EC2 with the temporary key', async () => {
    vi.stubEnv('AWS_ACCESS_KEY_ID', undefined);
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', undefined);
    vi.stubEnv('AWS_REGION', 'us-east-1');
    vi.stubEnv('AWS_ROLE_ARN', ROLE);
    vi.stubEnv('AWS_WEB_IDENTITY_TOKEN_FILE', join(folder, 'token'));
    await writeFile(join(folder, 'token'), webIdentityToken());
    const cloud = connect();
    const call = context();
    await cloud.restart(ref(), SOFT, call);
    await cloud.restart(ref(), SOFT, call);
    expect(arrived('AssumeRoleWithWebIdentity')).toBe(1);
    expect(assumedKey('AssumeRoleWithWebIdentity')).toEqual([undefined]);
    for (const key of assumedKey('RebootInstances')) expect(key).toMatch(/^ASIA/);
    expect(call.asked).toBe(2);
  });

  test('a configured role: by token file, and by the environment', async () => {
    await writeFile(join(folder, 'token'), webIdentityToken());
    await connect({ credentials: { role: { arn: ROLE, webIdentityTokenFile: join(folder, 'token') } } }).restart(ref(), SOFT, context());
    await connect({ credentials: { role: { arn: ROLE, externalID: 'x1' } } }).restart(ref(), SOFT, context());
    expect(proxy.forwarded.find((r) => /Action=AssumeRole(&|$)/m.test(r))).toContain('ExternalId=x1');
    for (const key of assumedKey('RebootInstances')) expect(key).toMatch(/^ASIA/);
  });

  test('STS refuses: Forbidden, nothing sent to EC2', async () => {
    proxy.inject({
      match: 'Action=AssumeRole',
      kind: 'answer',
      bytes: (() => {
        const body =
          '<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error><RequestId>r</RequestId></ErrorResponse>';
        return `HTTP/1.1 403 x\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`;
      })(),
    });
    const error = await failure(connect({ credentials: { role: { arn: ROLE } } }).restart(ref(), SOFT, context()));
    expect(error).toMatchObject({ kind: 'Forbidden', mayHaveHappened: false });
    expect(arrived('RebootInstances')).toBe(0);
  });

  test('a profile, and files', async () => {
    vi.stubEnv('AWS_ACCESS_KEY_ID', undefined);
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', undefined);
    // A file that the SDK has not looked for yet: it keeps what it read, also that there was none.
    vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', join(folder, 'with-profile'));
    await writeFile(join(folder, 'with-profile'), `[ops]\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = ${randomUUID()}\n`);
    await connect({ credentials: { profile: 'ops' } }).restart(ref(), SOFT, context());
    await writeFile(join(folder, 'id'), 'AKIAFILE\n');
    await writeFile(join(folder, 'secret'), randomUUID());
    const files = { id: join(folder, 'id'), secret: join(folder, 'secret') };
    await connect({ credentials: { files } }).restart(ref(), SOFT, context());
    expect(assumedKey('RebootInstances')).toEqual(['AKIAPROFILE', 'AKIAFILE']);
    const none = { id: join(folder, 'none'), secret: join(folder, 'none') };
    expect(await failure(connect({ credentials: { files: none } }).restart(ref(), SOFT, context()))).toMatchObject({
      code: 'NoCredentials',
    });
  });

  test('R19: no secret in any error, not even when the cloud repeats it', async () => {
    const secret = `${randomUUID()}`.replaceAll('-', '');
    vi.stubEnv('AWS_ACCESS_KEY_ID', `AKIA${secret.toUpperCase().slice(0, 16)}`);
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', secret);
    const echo = `key AKIA${secret.toUpperCase().slice(0, 16)} secret ${secret} Encoded authorization failure message: ${secret}${secret}`;
    for (const bytes of [
      refusal('403 x', 'UnauthorizedOperation', echo),
      refusal('500 x', 'InternalError', echo),
      `HTTP/1.1 200 OK\r\n\r\n${echo}`,
    ]) {
      proxy.inject({ match: 'Action=RebootInstances', kind: 'answer', bytes });
      const error = await failure(connect().restart(ref(), SOFT, context()));
      const shown = `${error.stack}${JSON.stringify(error)}${String(error.cause)}`;
      expect(shown).not.toContain(secret);
      expect(shown).not.toContain(secret.toUpperCase().slice(0, 16));
    }
  });
});

/** moto reads the claims of the token and checks no signature. */
function webIdentityToken(): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part({ alg: 'none' })}.${part({ sub: 'system:serviceaccount:fairlead:hub', aud: 'sts.amazonaws.com', jti: randomUUID() })}.x`;
}
