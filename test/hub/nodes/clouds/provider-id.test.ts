import { describe, expect, test } from 'vitest';
import type { Account } from '../../../../src/hub/nodes/clouds/definition.ts';
import { ProviderIDError, quote } from '../../../../src/hub/nodes/clouds/provider-id.ts';
import { clouds } from '../../../../src/hub/nodes/clouds/registry.ts';
import { instanceResolver } from '../../../../src/hub/nodes/clouds/resolve.ts';
import { threadTime } from '../../../support/thread-time.ts';
import { account } from './call.ts';

const AWS_ID = 'i-0123456789abcdef0';
const environment = { TENCENTCLOUD_REGION: 'ap-singapore' };

function resolve(
  providerID: string,
  labels: Record<string, string> = {},
  accounts: Account[] = [],
  env: Record<string, string> = environment,
) {
  return instanceResolver({ accounts, environment: env })({ name: 'n1', providerID, labels });
}

describe('accepted', () => {
  const rows: [providerID: string, cloud: string, region: string, zone: string, id: string][] = [
    [`aws:///us-east-1a/${AWS_ID}`, 'aws', 'us-east-1', 'us-east-1a', AWS_ID],
    ['aws:///eu-west-3b/i-0a1b2c3d', 'aws', 'eu-west-3', 'eu-west-3b', 'i-0a1b2c3d'],
    [`aws:///us-gov-west-1a/${AWS_ID}`, 'aws', 'us-gov-west-1', 'us-gov-west-1a', AWS_ID],
    [`aws:///us-west-2-lax-1a/${AWS_ID}`, 'aws', 'us-west-2', 'us-west-2-lax-1a', AWS_ID],
    [`aws:///us-east-1-wl1-bos-wlz-1/${AWS_ID}`, 'aws', 'us-east-1', 'us-east-1-wl1-bos-wlz-1', AWS_ID],
    ['qcloud:///800000/ins-abcd1234', 'tencent', 'ap-singapore', '800000', 'ins-abcd1234'],
    ['tencentcloud:///ap-guangzhou-3/ins-abcd1234', 'tencent', 'ap-guangzhou', 'ap-guangzhou-3', 'ins-abcd1234'],
    ['tencentcloud:///ap-shanghai-fsi-2/ins-abcd1234', 'tencent', 'ap-shanghai-fsi', 'ap-shanghai-fsi-2', 'ins-abcd1234'],
    ['cn-hangzhou.i-bp1azkttqpldxgted0ab', 'alibaba', 'cn-hangzhou', '', 'i-bp1azkttqpldxgted0ab'],
    ['alicloud://us-west-1.i-rj9azkttqpldxgted0ab', 'alibaba', 'us-west-1', '', 'i-rj9azkttqpldxgted0ab'],
    ['alicloud:///cn-hangzhou-h/i-bp1azkttqpldxgted0ab', 'alibaba', 'cn-hangzhou', 'cn-hangzhou-h', 'i-bp1azkttqpldxgted0ab'],
    ['alicloud:///us-west-1a/i-rj9azkttqpldxgted0ab', 'alibaba', 'us-west-1', 'us-west-1a', 'i-rj9azkttqpldxgted0ab'],
    [
      'alicloud:///cn-shanghai-finance-1-b/i-bp1azkttqpldxgted0ab',
      'alibaba',
      'cn-shanghai-finance-1',
      'cn-shanghai-finance-1-b',
      'i-bp1azkttqpldxgted0ab',
    ],
  ];
  test.each(rows)('%s', (providerID, cloud, region, zone, instanceID) => {
    const found = resolve(providerID);
    expect(found.ref).toEqual({ cloud, account: undefined, region, zone, instanceID });
    expect(found.cloud.name).toBe(cloud);
  });
});

describe('Tencent region', () => {
  const id = 'qcloud:///800000/ins-abcd1234';
  test('configuration, then labels, then the zone, then the environment', () => {
    const labels = {
      'topology.kubernetes.io/region': 'ap-beijing',
      'topology.com.tencent.cloud.csi.cbs/zone': 'ap-shanghai-2',
      'topology.kubernetes.io/zone': 'ap-nanjing-1',
    };
    expect(resolve(id, labels, [account('tencent', { name: 'a', region: 'ap-tokyo' })]).ref.region).toBe('ap-tokyo');
    expect(resolve(id, labels).ref.region).toBe('ap-beijing');
    expect(resolve(id, { ...labels, 'topology.kubernetes.io/region': 'gz' }).ref.region).toBe('ap-shanghai');
    expect(resolve(id, { 'topology.kubernetes.io/zone': 'ap-nanjing-1' }).ref.region).toBe('ap-nanjing');
    expect(resolve('tencentcloud:///ap-guangzhou-3/ins-abcd1234', {}).ref.region).toBe('ap-guangzhou');
    expect(resolve(id, { 'topology.kubernetes.io/zone': '800000' }).ref.region).toBe('ap-singapore');
  });
  test('without any of them it is refused with the ways to set it', () => {
    expect(() => resolve(id, {}, [], {})).toThrow(
      /set region in the cloud configuration, or TENCENTCLOUD_REGION, or the label topology\.kubernetes\.io\/region/,
    );
  });
});

describe('refused with a reason', () => {
  const rows: [providerID: string, reason: RegExp][] = [
    ['aws:///us-east-1a/6c9a5b2e-1234-4321-8765-0123456789ab/fargate-ip-10-0-0-1.ec2.internal', /Fargate/],
    ['aws:///us-east-1a/0123456789abcdef/fargate-10.0.0.1', /Fargate/],
    ['aws:///us-east-1a/6c9a5b2e-1234-4321-8765-0123456789ab', /Fargate/],
    ['eks-hybrid:///us-west-2/my-cluster/mi-0123456789abcdef0', /hybrid/],
    ['qcloud:///800000/np-abcd1234-x', /native node/],
    ['qcloud:///800000/eklet-subnet-abcd1234', /super node/],
    ['qcloud:///800000/kn-abcd1234', /only CVM instances/],
    ['kwok://node-0', /supported: aws:\/\/\/.*qcloud:\/\/\/.*alicloud/],
    ['gce://p/z/n', /supported: /],
    ['', /spec\.providerID is empty.*supported: aws/],
  ];
  test.each(rows)('%s', (providerID, reason) => {
    expect(() => resolve(providerID)).toThrow(ProviderIDError);
    expect(() => resolve(providerID)).toThrow(reason);
  });
});

/** Forms that a lax parser ("after the last slash", a prefix, unanchored) would take for another instance, account, region or host. */
const CRAFTED = [
  `aws:///us-east-1a/../us-west-2a/${AWS_ID}`,
  `aws:///us-east-1a/x/${AWS_ID}`,
  `aws:///us-east-1a/${AWS_ID}/`,
  `aws:///us-east-1a/${AWS_ID}/i-0123456789abcdef1`,
  `aws:///us-east-1a//${AWS_ID}`,
  `aws:////${AWS_ID}`,
  `aws://us-east-1a/${AWS_ID}`,
  `aws://evil.example/us-east-1a/${AWS_ID}`,
  `aws:///us-east-1a/${AWS_ID}\n`,
  `aws:///us-east-1a/${AWS_ID}\u0000`,
  `aws:///us-east-1a/${AWS_ID}&InstanceId.2=i-0123456789abcdef1`,
  `aws:///us-east-1a/${AWS_ID},i-0123456789abcdef1`,
  `aws:///us-east-1a/${AWS_ID}?x=1`,
  `aws:///us-east-1a/${AWS_ID}#x`,
  `aws:///us-east-1a/${AWS_ID} `,
  ` aws:///us-east-1a/${AWS_ID}`,
  'aws:///us-east-1a/i-0123456789ABCDEF0',
  'aws:///us-east-1a/i-0123456789abcdef',
  'aws:///us-east-1a/i-0123456789abcdef00',
  'aws:///us-east-1a/%69-0123456789abcdef0',
  'aws:///us-east-1a/i%2d0123456789abcdef0',
  'aws:///us-east-1a/\u0456-0123456789abcdef0',
  `aws:///us-east-1.evil.example/${AWS_ID}`,
  `aws:///us-east-1a@evil.example/${AWS_ID}`,
  `aws:///us-east-1/${AWS_ID}`,
  `AWS:///us-east-1a/${AWS_ID}`,
  `aws:/us-east-1a/${AWS_ID}`,
  `aws:\\\\us-east-1a\\${AWS_ID}`,
  `aws:///us-east-1a/i-${'0'.repeat(300)}`,
  `aws:///us-east-1a/i-${'0'.repeat(100_000)}`,
  'qcloud:///800000/ins-abcd1234/../ins-zzzz9999',
  'qcloud:///800000/x/ins-abcd1234',
  'qcloud:///8e5/ins-abcd1234',
  'qcloud:///800000/ins-ABCD1234',
  'qcloud:///800000/ins-abcd1234"]}',
  'tencentcloud:///ap-guangzhou-3.evil.example/ins-abcd1234',
  'tencentcloud:///ap-guangzhou-3/ins-abcd%31234',
  'alicloud://cn-hangzhou.evil.example/x.i-bp1azkttqpldxgted0ab',
  'alicloud://cn-hangzhou.i-bp1azkttqpldxgted0ab/../i-bp1azkttqpldxgted0zz',
  'alicloud://evil@cn-hangzhou.i-bp1azkttqpldxgted0ab',
  'alicloud:///cn-hangzhou-h/x/i-bp1azkttqpldxgted0ab',
  'cn-hangzhou.i-bp1azkttqpldxgted0ab&ForceStop=true',
  'cn-hangzhou..i-bp1azkttqpldxgted0ab',
  'cn-hangzhou.aliyuncs.com.i-bp1azkttqpldxgted0ab',
  'i-bp1azkttqpldxgted0ab',
  'constructor://x/i-0123456789abcdef0',
  '__proto__:///us-east-1a/i-0123456789abcdef0',
];

describe('crafted ProviderIDs', () => {
  test(`R18: ${CRAFTED.length} of them are refused, and no cloud is connected`, () => {
    expect(CRAFTED.length).toBeGreaterThanOrEqual(40);
    for (const providerID of CRAFTED) {
      let caught: unknown;
      try {
        resolve(providerID);
      } catch (error) {
        caught = error;
      }
      expect(caught, quote(providerID)).toBeInstanceOf(ProviderIDError);
      if (caught instanceof Error) {
        expect(caught.message.length).toBeLessThan(1000);
        expect(caught.message).not.toMatch(/\p{Cc}/u);
      }
    }
  });

  test('R34: no ProviderID or label of 100 KB keeps the parsers longer than 20 ms', () => {
    const long = 100_000;
    const texts = ['a-', 'ab-cd-', 'cn-', '1', '/', 'i-0', '.', 'aws:///', 'us-east-1-'].map((s) => s.repeat(long / s.length));
    for (const text of texts) {
      for (const prefix of ['', 'aws:///', 'qcloud:///', 'tencentcloud:///', 'alicloud://', 'alicloud:///', 'eks-hybrid://']) {
        const identity = {
          name: 'n',
          providerID: prefix + text,
          labels: { 'topology.kubernetes.io/region': text, 'topology.kubernetes.io/zone': text },
        };
        const spent = threadTime();
        for (const cloud of clouds) expect(() => cloud.parse(identity, account(cloud.name), {})).toThrow(ProviderIDError);
        expect(() => resolve(identity.providerID, identity.labels)).toThrow(ProviderIDError);
        expect(spent(), prefix + text.slice(0, 10)).toBeLessThan(20 * (clouds.length + 1));
      }
    }
  });
});

describe('accounts', () => {
  const east = `aws:///us-east-1a/${AWS_ID}`;
  const west = `aws:///us-west-2a/${AWS_ID}`;
  const accounts = [
    account('aws', { name: 'gpu', match: { nodeSelector: { pool: 'gpu' } } }),
    account('aws', { name: 'west', match: { regions: ['us-west-2'] } }),
    account('aws', { name: 'east', region: 'us-east-1' }),
  ];
  test('the first that matches is taken', () => {
    expect(resolve(east, { pool: 'gpu' }, accounts).ref.account).toBe('gpu');
    expect(resolve(west, {}, accounts).ref.account).toBe('west');
    expect(resolve(east, {}, accounts).ref.account).toBe('east');
  });
  test('no match is refused, a cloud without accounts uses the environment', () => {
    expect(() => resolve(`aws:///eu-west-1a/${AWS_ID}`, {}, accounts)).toThrow(
      /no account of aws in the cloud configuration matches node "n1"/,
    );
    expect(resolve('cn-hangzhou.i-bp1azkttqpldxgted0ab', {}, accounts).ref.account).toBeUndefined();
  });
  test('a label named like an object member does not match', () => {
    const odd = [account('aws', { name: 'x', match: { nodeSelector: { constructor: 'y' } } })];
    expect(() => resolve(east, {}, odd)).toThrow(/no account/);
  });
  test('one Cloud per account', () => {
    const resolver = instanceResolver({ accounts, environment });
    const first = resolver({ name: 'a', providerID: east, labels: {} }).cloud;
    expect(resolver({ name: 'b', providerID: east, labels: {} }).cloud).toBe(first);
    expect(resolver({ name: 'b', providerID: west, labels: {} }).cloud).not.toBe(first);
  });
});
