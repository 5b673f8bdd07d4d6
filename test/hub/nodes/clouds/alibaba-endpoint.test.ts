import { createHash, randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { targetOf } from '../../../../src/hub/nodes/clouds/flight.ts';
import { send } from '../../../../src/hub/nodes/clouds/send.ts';
import type { AlibabaEndpoint } from '../../../endpoints/alibaba.ts';
import { startAlibaba } from '../../../endpoints/alibaba.ts';

const ID = 'i-bp1azkttqpldxgted0ab';

let endpoint: AlibabaEndpoint;
let secret: string;

beforeEach(async () => {
  secret = randomUUID().replaceAll('-', '').slice(0, 30);
  endpoint = await startAlibaba({ keys: new Map([['LTAIexample', { secret }]]) });
  endpoint.instances.set(ID, { Status: 'Running', region: 'cn-hangzhou' });
});
afterEach(() => endpoint.close());

const effects = () => endpoint.calls.filter((c) => c.effect).length;

describe('the endpoint is strict', () => {
  const rows: [what: string, change: (headers: Record<string, string>) => string, code: string][] = [
    [
      'no signature',
      (h) => {
        delete h['authorization'];
        return '/';
      },
      'IncompleteSignature',
    ],
    [
      'an unknown key',
      (h) => {
        h['authorization'] = h['authorization']?.replace('LTAIexample', 'LTAIother') ?? '';
        return '/';
      },
      'InvalidAccessKeyId.NotFound',
    ],
    ['another query than signed', () => '/?InstanceId=i-bp1zzzzzzzzzzzzzzzzz', 'SignatureDoesNotMatch'],
    [
      'another action than signed',
      (h) => {
        h['x-acs-action'] = 'StopInstance';
        return '/';
      },
      'SignatureDoesNotMatch',
    ],
    [
      'an old date',
      (h) => {
        h['x-acs-date'] = '2020-01-01T00:00:00Z';
        return '/';
      },
      'InvalidTimeStamp.Expired',
    ],
    [
      'a header that is not signed',
      (h) => {
        h['x-acs-extra'] = '1';
        return '/';
      },
      'IncompleteSignature',
    ],
  ];
  test.each(rows)('%s is refused', async (_what, change, code) => {
    const { OpenApiUtil } = await import('@alicloud/openapi-core');
    const hash = createHash('sha256').update('').digest('hex');
    const headers: Record<string, string> = {
      host: `localhost:${endpoint.port}`,
      'x-acs-action': 'RebootInstance',
      'x-acs-version': '2014-05-26',
      'x-acs-date': `${new Date().toISOString().slice(0, 19)}Z`,
      'x-acs-signature-nonce': randomUUID(),
      'x-acs-content-sha256': hash,
    };
    const request = { protocol: 'http', port: 80, method: 'POST', pathname: '/', query: {}, headers, body: Readable.from([]) };
    headers['authorization'] = OpenApiUtil.getAuthorization(request, 'ACS3-HMAC-SHA256', hash, 'LTAIexample', secret);
    const path = change(headers);
    const flight = { signal: AbortSignal.timeout(10_000), beforeSend: undefined, sent: false, refused: undefined, failure: '' };
    const answer = await send(targetOf(new URL(endpoint.url), undefined), { method: 'POST', path, headers, body: '' }, flight);
    expect(JSON.parse(answer.body.toString('utf8'))).toMatchObject({ Code: code });
    expect(effects()).toBe(0);
  });
});
