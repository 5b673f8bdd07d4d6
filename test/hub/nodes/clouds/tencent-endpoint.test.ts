import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { targetOf } from '../../../../src/hub/nodes/clouds/flight.ts';
import { oneRequestAgent } from '../../../../src/hub/nodes/clouds/one-request-agent.ts';
import type { TencentEndpoint } from '../../../endpoints/tencent.ts';
import { startTencent } from '../../../endpoints/tencent.ts';

const ID = 'ins-abcd1234';

let endpoint: TencentEndpoint;
let secret: string;

beforeEach(async () => {
  secret = randomUUID().replaceAll('-', '');
  endpoint = await startTencent({ keys: new Map([['AKIDexample', { secret }]]) });
  endpoint.instances.set(ID, { InstanceState: 'RUNNING', region: 'ap-guangzhou' });
});
afterEach(() => endpoint.close());

const effects = () => endpoint.calls.filter((c) => c.effect).length;

describe('the endpoint is strict', () => {
  const sdkCall = async (action: string, parameters: object, host = 'cvm.localhost') => {
    const { cvm } = await import('tencentcloud-sdk-nodejs-cvm');
    const flight = { signal: AbortSignal.timeout(10_000), beforeSend: undefined, sent: false, refused: undefined, failure: '' };
    const client = new cvm.v20170312.Client({
      credential: { secretId: 'AKIDexample', secretKey: secret },
      region: 'ap-guangzhou',
      profile: {
        httpProfile: {
          protocol: 'http://',
          endpoint: `${host}:${endpoint.port}`,
          agent: oneRequestAgent(targetOf(new URL(endpoint.url), undefined), flight),
        },
      },
    });
    return client.request(action, parameters);
  };
  const rows: [action: string, parameters: object, code: string][] = [
    ['RebootInstances', { InstanceIds: [ID], StopType: 'SOFT', ForceReboot: true }, 'InvalidParameterCombination'],
    ['RebootInstances', { InstanceIds: [ID], StopType: 'GENTLY' }, 'InvalidParameterValue'],
    ['RebootInstances', { InstanceIds: [ID], Unknown: 1 }, 'UnknownParameter'],
    ['RebootInstances', {}, 'MissingParameter'],
    ['RebootInstances', { InstanceIds: ['ins-ABCD'] }, 'InvalidInstanceId.Malformed'],
    ['TerminateInstances', { InstanceIds: [ID] }, 'InvalidAction'],
  ];
  test.each(rows)('%s %j is refused with %s', async (action, parameters, code) => {
    await expect(sdkCall(action, parameters)).rejects.toMatchObject({ code });
    expect(effects()).toBe(0);
  });
  test('a signature for another service, and none at all', async () => {
    // The SDK takes the service from the host's first label.
    await expect(sdkCall('RebootInstances', { InstanceIds: [ID] }, 'abc.localhost')).rejects.toMatchObject({
      code: 'AuthFailure.SignatureFailure',
    });
    const answer = await fetch(`http://127.0.0.1:${endpoint.port}/`, {
      method: 'POST',
      headers: { 'x-tc-action': 'RebootInstances' },
      body: '{}',
    });
    expect(await answer.json()).toMatchObject({ Response: { Error: { Code: 'AuthFailure.SignatureFailure' } } });
    expect(effects()).toBe(0);
  });
});
