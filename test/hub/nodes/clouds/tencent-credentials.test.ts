import { randomUUID } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Account } from '../../../../src/hub/nodes/clouds/definition.ts';
import { tencent } from '../../../../src/hub/nodes/clouds/tencent.ts';
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

describe('credentials', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'tencent-'));
  });
  afterEach(() => rm(folder, { recursive: true }));

  test('files are read anew, so a rotated key counts at once', async () => {
    environment = {};
    const files = { id: join(folder, 'id'), secret: join(folder, 'secret') };
    await writeFile(files.id, 'AKIDexample\n');
    await writeFile(files.secret, 'old');
    const cloud = connect({ credentials: { files } });
    expect((await failure(cloud.describe(ref, context()))).kind).toBe('Forbidden');
    await writeFile(files.secret, `${secret}\n`);
    expect((await cloud.describe(ref, context())).powerState).toBe('Running');
  });

  test('none at all, or a missing file: Forbidden, nothing sent', async () => {
    environment = { TENCENTCLOUD_METADATA_ENDPOINT: 'http://127.0.0.1:9' };
    expect(await failure(connect().restart(ref, SOFT, context()))).toMatchObject({ kind: 'Transient', mayHaveHappened: false });
    const files = { id: join(folder, 'none'), secret: join(folder, 'none') };
    const error = await failure(connect({ credentials: { files } }).restart(ref, SOFT, context()));
    expect(error).toMatchObject({ kind: 'Forbidden', code: 'NoCredentials', mayHaveHappened: false });
    expect(endpoint.calls).toEqual([]);
  });

  test('TKE OIDC: the token is exchanged once, and a refusal does not stick', async () => {
    const role = { token: randomUUID(), arn: 'qcs::cam::uin/1:roleName/restart', provider: 'tke-oidc' };
    const oidc = await startTencent({ keys: new Map(), role });
    try {
      oidc.instances.set(ID, { InstanceState: 'RUNNING', region: 'ap-guangzhou' });
      const tokenFile = join(folder, 'token');
      await writeFile(tokenFile, 'not-yet');
      environment = {
        TKE_ROLE_ARN: role.arn,
        TKE_PROVIDER_ID: role.provider,
        TKE_WEB_IDENTITY_TOKEN_FILE: tokenFile,
        TKE_REGION: 'ap-guangzhou',
      };
      const cloud = connect({ endpoint: oidc.url, credentials: { role: { arn: role.arn, stsEndpoint: oidc.url } } });
      expect(await failure(cloud.restart(ref, SOFT, context()))).toMatchObject({ kind: 'Forbidden', code: 'NoCredentials' });
      await writeFile(tokenFile, role.token);
      await cloud.restart(ref, SOFT, context());
      await cloud.restart(ref, SOFT, context());
      expect(oidc.issued).toHaveLength(1);
      expect(oidc.calls.filter((c) => c.effect)).toHaveLength(2);
    } finally {
      await oidc.close();
    }
  });

  test('the CAM role of the machine', async () => {
    const { createServer: createHTTP } = await import('node:http');
    const metadata = createHTTP((request, response) => {
      if (request.url === '/latest/meta-data/cam/security-credentials/') response.end('node-role');
      else if (request.url === '/latest/meta-data/cam/security-credentials/node-role')
        response.end(
          JSON.stringify({
            TmpSecretId: 'AKIDexample',
            TmpSecretKey: secret,
            Token: 't',
            ExpiredTime: Date.now() / 1000 + 3600,
            Code: 'Success',
          }),
        );
      else response.writeHead(404).end();
    });
    await new Promise<void>((resolve) => metadata.listen(0, '127.0.0.1', resolve));
    const address = metadata.address();
    if (address === null || typeof address === 'string') throw new Error('no port');
    try {
      environment = { TENCENTCLOUD_METADATA_ENDPOINT: `http://127.0.0.1:${address.port}` };
      expect((await connect().describe(ref, context())).powerState).toBe('Running');
    } finally {
      await new Promise((resolve) => metadata.close(resolve));
    }
  });

  test('R19: no secret in any error, not even when the cloud repeats it', async () => {
    const key = `AKIDcanary${randomUUID().replaceAll('-', '')}`;
    const token = `${randomUUID()}${randomUUID()}`.replaceAll('-', '');
    environment = { TENCENTCLOUD_SECRET_ID: key, TENCENTCLOUD_SECRET_KEY: secret, TENCENTCLOUD_TOKEN: token };
    const echo = `id ${key} key ${secret} token ${token}`;
    const json = JSON.stringify({ Response: { Error: { Code: 'AuthFailure', Message: echo }, RequestId: token } });
    const errors = [await failure(connect().restart(ref, SOFT, context()))];
    for (const [status, body] of [
      [500, echo],
      [200, json],
    ] as const) {
      endpoint.inject('RebootInstances', { kind: 'raw', status, body });
      errors.push(await failure(connect().restart(ref, SOFT, context())));
    }
    expect(errors.map((e) => e.kind)).toEqual(['Forbidden', 'Transient', 'Forbidden']);
    for (const error of errors) {
      const shown = `${error.stack}${JSON.stringify(error)}${String(error.cause)}`;
      for (const canary of [key, secret, token]) expect(shown).not.toContain(canary);
    }
  });
});
