import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
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
afterEach(async () => {
  vi.unstubAllEnvs();
  await endpoint.close();
});

function connect(rest: Partial<Account> = {}) {
  return alibaba.connect(
    account('alibaba', { endpoint: endpoint.url, credentials: { env: { id: 'ID', secret: 'SECRET' } }, ...rest }),
    environment,
  );
}

const effects = () => endpoint.calls.filter((c) => c.effect).length;

describe('credentials', () => {
  test("the SDK's environment variables, and a failed lookup does not stick", async () => {
    vi.stubEnv('ALIBABA_CLOUD_ECS_METADATA_DISABLED', 'true');
    const cloud = connect({ credentials: {} });
    expect(await failure(cloud.restart(ref, SOFT, context()))).toMatchObject({
      kind: 'Forbidden',
      code: 'NoCredentials',
      mayHaveHappened: false,
    });
    vi.stubEnv('ALIBABA_CLOUD_ACCESS_KEY_ID', 'LTAIexample');
    vi.stubEnv('ALIBABA_CLOUD_ACCESS_KEY_SECRET', secret);
    await cloud.restart(ref, SOFT, context());
    expect(effects()).toBe(1);
  });
  test('a session token is sent and signed', async () => {
    await endpoint.close();
    endpoint = await startAlibaba({ keys: new Map([['STS.example', { secret, token: 'session' }]]) });
    endpoint.instances.set(ID, { Status: 'Running', region: 'cn-hangzhou' });
    environment = { ID: 'STS.example', SECRET: secret, TOKEN: 'session' };
    await connect({ credentials: { env: { id: 'ID', secret: 'SECRET', token: 'TOKEN' } } }).restart(ref, SOFT, context());
    environment['TOKEN'] = 'other';
    const error = await failure(
      connect({ credentials: { env: { id: 'ID', secret: 'SECRET', token: 'TOKEN' } } }).restart(ref, SOFT, context()),
    );
    expect(error).toMatchObject({ kind: 'Forbidden', code: 'InvalidSecurityToken.Malformed' });
  });
  test('RRSA: the token is exchanged by OIDC and the temporary key signs', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'alibaba-'));
    const role = { token: randomUUID(), arn: 'acs:ram::1:role/restart', provider: 'acs:ram::1:oidc-provider/ack' };
    const tls = selfSigned('localhost');
    const secure = await startAlibaba({ keys: new Map(), role, tls });
    try {
      secure.instances.set(ID, { Status: 'Running', region: 'cn-hangzhou' });
      await writeFile(join(folder, 'ca.pem'), tls.cert);
      await writeFile(join(folder, 'token'), role.token);
      const settings = { cloud: 'alibaba', timeoutMilliseconds: 10_000, endpoint: secure.url, ca: tls.cert, match: {} };
      const credentials = { role: { arn: role.arn, stsEndpoint: secure.url } };
      const program = `
        import { alibaba } from ${JSON.stringify(join(import.meta.dirname, '../../../../src/hub/nodes/clouds/alibaba.ts'))};
        const cloud = alibaba.connect(${JSON.stringify({ ...settings, credentials })}, {});
        await cloud.restart(${JSON.stringify(ref)}, { mode: 'soft', dryRun: false }, { signal: new AbortController().signal, beforeSend: () => undefined });
      `;
      // Of its own process, because the SDK's STS client knows only the authorities that Node started with.
      await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program], {
        timeout: 20_000,
        env: {
          PATH: process.env['PATH'] ?? '',
          NODE_EXTRA_CA_CERTS: join(folder, 'ca.pem'),
          ALIBABA_CLOUD_OIDC_PROVIDER_ARN: role.provider,
          ALIBABA_CLOUD_OIDC_TOKEN_FILE: join(folder, 'token'),
        },
      });
      expect(secure.issued).toHaveLength(1);
      expect(secure.calls.filter((c) => c.effect).map((c) => c.action)).toEqual(['RebootInstance']);
    } finally {
      await secure.close();
      await rm(folder, { recursive: true });
    }
  });
  test('R19: no secret in any error, not even when the cloud repeats it', async () => {
    const echo = `key LTAI${secret} secret ${secret}`;
    const faults = [
      { kind: 'raw', status: 500, body: echo },
      { kind: 'raw', status: 403, body: JSON.stringify({ Code: 'Forbidden', Message: echo, RequestId: secret }) },
      { kind: 'refuse', status: 500, code: 'InternalError', message: echo },
    ] as const;
    for (const fault of faults) {
      endpoint.inject('RebootInstance', fault);
      const error = await failure(connect().restart(ref, SOFT, context()));
      expect(`${error.stack}${JSON.stringify(error)}${String(error.cause)}`).not.toContain(secret);
    }
  });
});
