import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { parseAccounts, readAccounts } from '../../../../src/hub/nodes/clouds/accounts.ts';
import { clouds } from '../../../../src/hub/nodes/clouds/registry.ts';
import { instanceResolver } from '../../../../src/hub/nodes/clouds/resolve.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'accounts-'));
});
afterEach(() => rm(folder, { recursive: true }));

const WHOLE = `
accounts:
- name: prod
  cloud: aws
  timeoutSeconds: 3
  credentials: { role: { arn: 'arn:aws:iam::123456789012:role/restart', webIdentityTokenFile: token, externalID: x } }
  match: { nodeSelector: { env: prod }, regions: [us-east-1] }
- name: tke
  cloud: tencent
  region: ap-guangzhou
  endpoint: internal
  credentials: { files: { id: id, secret: /etc/keys/secret } }
- name: ack
  cloud: alibaba
  caFile: ca.pem
  credentials: { env: { id: ALI_ID, secret: ALI_SECRET } }
`;

test('a whole file: paths are relative to it, times are in milliseconds', async () => {
  const file = join(folder, 'clouds.yaml');
  await writeFile(file, WHOLE);
  await writeFile(join(folder, 'ca.pem'), 'PEM');
  const [prod, tke, ack] = await readAccounts(file, clouds);
  expect(prod).toMatchObject({
    name: 'prod',
    timeoutMilliseconds: 3000,
    credentials: { role: { webIdentityTokenFile: join(folder, 'token') } },
  });
  expect(tke).toMatchObject({
    endpoint: 'internal',
    credentials: { files: { id: join(folder, 'id'), secret: '/etc/keys/secret' } },
  });
  expect(tke).not.toHaveProperty('timeoutMilliseconds');
  expect(ack).toMatchObject({ ca: 'PEM', credentials: { env: { id: 'ALI_ID', secret: 'ALI_SECRET' } } });
});

test("regression: with an accounts file the hub's --cloud-timeout was not used", () => {
  const text = 'accounts:\n- { name: own, cloud: aws, timeoutSeconds: 3, match: { regions: [eu-west-1] } }\n- { name: other, cloud: aws }';
  const definition = clouds.find(({ name }) => name === 'aws');
  if (!definition) throw new Error('no aws');
  const connect = vi.spyOn(definition, 'connect');
  const limitOf = (zone: string, timeoutMilliseconds?: number) => {
    const accounts = parseAccounts('c.yaml', text, clouds);
    const resolve = instanceResolver({ accounts, environment: {}, ...(timeoutMilliseconds !== undefined && { timeoutMilliseconds }) });
    resolve({ name: 'n', providerID: `aws:///${zone}/i-0123456789abcdef0`, labels: {} });
    return connect.mock.lastCall?.[0].timeoutMilliseconds;
  };
  expect([limitOf('us-east-1a', 25_000), limitOf('us-east-1a'), limitOf('eu-west-1a', 25_000)]).toEqual([25_000, 10_000, 3_000]);
  connect.mockRestore();
});

describe('faults name the file and the field, never a value', () => {
  const CANARY = 'canary-5f1c9e';
  const entry = (text: string) => `accounts:\n- name: a\n  cloud: aws\n${text}`;
  const rows: [text: string, message: RegExp][] = [
    ['accounts: 5', /c\.yaml: accounts: /],
    [entry(`  credentials: { secretKey: ${CANARY} }`), /accounts\[0\]\.credentials: unknown field "secretKey".*never written here/],
    [entry(`  credentials: { files: { id: x } }`), /accounts\[0\]\.credentials\.files: .*secret/],
    [entry(`  credentials: { env: { id: "${CANARY} x", secret: B } }`), /accounts\[0\]\.credentials\.env\.id: /],
    [
      entry('  credentials: { profile: p, env: { id: A, secret: B } }'),
      /accounts\[0\]\.credentials: only one of profile, env can be given/,
    ],
    [
      entry('  credentials: { instanceRole: x }'),
      /accounts\[0\]\.credentials\.instanceRole: aws does not know it; it takes files, env, profile, role/,
    ],
    [entry('  endpoint: internal'), /accounts\[0\]\.endpoint: EC2 has no internal endpoint/],
    [entry('  endpoint: http://198.51.100.7'), /accounts\[0\]\.endpoint: must be https/],
    [entry(`  endpoint: https://u:${CANARY}@h`), /accounts\[0\]\.endpoint: must hold only scheme, host and port/],
    [entry('  timeoutSeconds: 0'), /accounts\[0\]\.timeoutSeconds: /],
    [entry('  caFile: missing.pem'), /accounts\[0\]\.caFile: cannot be read \(ENOENT\)/],
    ['accounts:\n- { name: a, cloud: azure }', /accounts\[0\]\.cloud: must be one of aws, tencent, alibaba/],
    ['accounts:\n- { name: a, cloud: aws }\n- { name: a, cloud: aws }', /accounts\[1\]\.name: is used twice/],
    [
      'accounts:\n- { name: a, cloud: tencent, endpoint: "https://example.com" }',
      /accounts\[0\]\.endpoint: the host must begin with cvm\./,
    ],
    [`accounts:\n- { name: a, secret: ${CANARY}`, /c\.yaml: line \d+: not valid YAML/],
    [`accounts: &a [${'*a,'.repeat(50)}]`, /c\.yaml: /],
  ];
  test.each(rows)('%j', async (text, message) => {
    const file = join(folder, 'c.yaml');
    await writeFile(file, text);
    const error = await readAccounts(file, clouds).then(
      () => undefined,
      (e: unknown) => e,
    );
    expect(error).toBeInstanceOf(Error);
    if (!(error instanceof Error)) return;
    expect(error.name).toBe('AccountsError');
    expect(error.message).toMatch(message);
    expect(error.message).not.toContain(CANARY);
  });
  test('a missing file', async () => {
    await expect(readAccounts(join(folder, 'none.yaml'), clouds)).rejects.toThrow(/none\.yaml: cannot be read \(ENOENT\)/);
  });
  test('an empty list is fine', () => {
    expect(parseAccounts('c.yaml', 'accounts: []', clouds)).toEqual([]);
  });
});
