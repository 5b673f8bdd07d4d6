import { createHash, randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import { alibabaCredentials } from './alibaba-credentials.ts';
import type { CallContext, Cloud, Instance, PowerState } from './cloud.ts';
import { CloudError } from './cloud.ts';
import type { Account, CloudDefinition, Environment } from './definition.ts';
import type { CodeTable } from './failure.ts';
import { credentialsError, lostError, refusalError } from './failure.ts';
import { endpointURLProblem, fly, TransportError, targetOf } from './flight.ts';
import type { InstanceRef, NodeIdentity } from './provider-id.ts';
import { ProviderIDError, quote } from './provider-id.ts';
import type { WireAnswer } from './send.ts';
import { send } from './send.ts';

const REGION = '[a-z]{2}(?:-[a-z0-9]{1,16}){1,3}';
const INSTANCE = 'i-[0-9a-z]{8,32}';
const BY_REGION = new RegExp(`^(?:alicloud://)?(${REGION})\\.(${INSTANCE})$`);
/** Zones: `cn-hangzhou-h`, `us-west-1a`. */
const BY_ZONE = new RegExp(`^alicloud:///((?:(${REGION})-[a-z]|([a-z]{2}-[a-z]{2,16}-\\d{1,2})[a-z]))/(${INSTANCE})$`);
const VERSION = '2014-05-26';
const ALGORITHM = 'ACS3-HMAC-SHA256';

/**
 * Alibaba Cloud ECS, API version 2014-05-26. The SDK (@alicloud/openapi-core, which @alicloud/ecs20140526 is generated on) takes no agent and no
 * hook, so only its signer is used (ACS3-HMAC-SHA256) and send.ts sends: the key is fetched, the request signed, the connection made, then
 * `beforeSend` asked at the write. Loading the signer alone costs 30 MiB; the generated ECS package would cost 74.
 */
export const alibaba: CloudDefinition = {
  name: 'alibaba',
  forms: ['<region>.i-<id>', 'alicloud://<region>.i-<id>', 'alicloud:///<zone>/i-<id>'],
  schemes: ['alicloud'],
  schemeless: new RegExp(`^${REGION}\\.[^:/]*$`),
  credentials: ['files', 'env', 'profile', 'role', 'instanceRole'],
  parse,
  checkEndpoint: (endpoint) => (endpoint === 'public' || endpoint === 'internal' ? undefined : endpointURLProblem(endpoint)),
  connect,
};

function parse({ providerID }: NodeIdentity, account: Account): InstanceRef {
  const byRegion = BY_REGION.exec(providerID);
  const byZone = byRegion ? null : BY_ZONE.exec(providerID);
  const [, zone = '', regionA, regionB, idByZone] = byZone ?? [];
  const region = byRegion?.[1] ?? regionA ?? regionB;
  const instanceID = byRegion?.[2] ?? idByZone;
  if (region === undefined || instanceID === undefined)
    throw new ProviderIDError(`ProviderID ${quote(providerID)}: must have the form ${alibaba.forms.join(' or ')}`);
  return { cloud: 'alibaba', account: account.name, region, zone, instanceID };
}

const CODES: CodeTable = [
  ['NotFound', ['InvalidInstanceId.NotFound', 'InvalidInstanceId.NotFoundInRegion']],
  ['Throttled', ['Throttling*']],
  [
    'Conflict',
    [
      'IncorrectInstanceStatus*',
      'OperationConflict*',
      'InvalidOperation.Ins*',
      'LastOperation*',
      'DiskCreatingSnapshot',
      'OperationDenied.InstanceCreating',
    ],
  ],
  ['Transient', ['InternalError*', 'ServiceUnavailable*', 'UnknownError', 'OperationDenied.NoStock']],
  [
    'Forbidden',
    [
      'Forbidden*',
      'NoPermission*',
      'OperationDenied*',
      'InstanceLocked*',
      'InvalidAccessKeyId*',
      'InvalidSecurityToken*',
      'MissingSecurityToken',
      'SignatureDoesNotMatch',
      'IncompleteSignature',
      'InvalidTimeStamp*',
      'UnauthorizedOperation*',
      'RealNameAuthenticationError',
    ],
  ],
  ['Invalid', ['Invalid*', 'Missing*', 'Unsupported*', 'SignatureNonceUsed']],
];

const POWER: Record<string, PowerState> = {
  Pending: 'Starting',
  Running: 'Running',
  Starting: 'Starting',
  Stopping: 'Stopping',
  Stopped: 'Stopped',
};

/** Host of a region; cn-hangzhou keeps an older name of its own. Source: the endpoint table of the SDK. */
function endpointOf(account: Account, region: string): URL {
  if (account.endpoint === 'internal') return new URL(`https://ecs-vpc.${region}.aliyuncs.com`);
  if (account.endpoint !== undefined && account.endpoint !== 'public') return new URL(account.endpoint);
  return new URL(region === 'cn-hangzhou' ? 'https://ecs-cn-hangzhou.aliyuncs.com' : `https://ecs.${region}.aliyuncs.com`);
}

function connect(account: Account, environment: Environment): Cloud {
  const keyFor = alibabaCredentials(account, environment);

  const call = (
    action: string,
    ref: InstanceRef,
    query: Record<string, string>,
    context: Pick<CallContext, 'signal'>,
    beforeSend: (() => void) | undefined,
  ): Promise<Record<string, unknown>> => {
    const what = `ECS ${action} of ${ref.instanceID} in ${ref.region}`;
    return fly(
      { signal: context.signal, beforeSend, timeoutMilliseconds: account.timeoutMilliseconds, what },
      async (flight) => {
        const { OpenApiUtil } = await import('@alicloud/openapi-core');
        const key = await keyFor().catch((error: unknown) => {
          throw credentialsError(what, error instanceof Error ? error.message : 'lookup failed');
        });
        const endpoint = endpointOf(account, ref.region);
        const payloadHash = createHash('sha256').update('').digest('hex');
        const headers: Record<string, string> = {
          host: endpoint.host,
          accept: 'application/json',
          'x-acs-action': action,
          'x-acs-version': VERSION,
          'x-acs-date': `${new Date().toISOString().slice(0, 19)}Z`,
          'x-acs-signature-nonce': randomUUID(),
          'x-acs-content-sha256': payloadHash,
          ...(key.token !== undefined && { 'x-acs-security-token': key.token }),
        };
        const signed = { protocol: 'https', port: 443, method: 'POST', pathname: '/', query, headers, body: Readable.from([]) };
        headers['authorization'] = OpenApiUtil.getAuthorization(signed, ALGORITHM, payloadHash, key.id, key.secret);
        const path = `/?${new URLSearchParams(query).toString().replaceAll('+', '%20').replaceAll('*', '%2A').replaceAll('%7E', '~')}`;
        const answer = await send(targetOf(endpoint, account.ca), { method: 'POST', path, headers, body: '' }, flight);
        const body = jsonOf(answer);
        if (answer.status === 200 && body) return body;
        throw refusalError(
          what,
          {
            code: text(body, 'Code'),
            message: text(body, 'Message'),
            status: answer.status,
            requestID: text(body, 'RequestId') || undefined,
            retryAfter: retryAfter(answer),
          },
          CODES,
          flight,
        );
      },
      (error, flight) =>
        flight.sent || flight.failure || error instanceof TransportError
          ? lostError(what, error, flight)
          : new CloudError('Transient', 'NotSent', `${what}: the request could not be prepared`),
    );
  };

  const act = async (action: string, ref: InstanceRef, query: Record<string, string>, dryRun: boolean, context: CallContext) => {
    try {
      await call(
        action,
        ref,
        { InstanceId: ref.instanceID, ...query, ...(dryRun && { DryRun: 'true' }) },
        context,
        dryRun ? undefined : context.beforeSend,
      );
    } catch (error) {
      if (!(dryRun && error instanceof CloudError && error.code === 'DryRunOperation')) throw error;
    }
  };

  return {
    name: 'alibaba',
    hardRestart: true,
    describe: async (ref, context) => {
      const query = { RegionId: ref.region, InstanceIds: JSON.stringify([ref.instanceID]) };
      const answer = await call('DescribeInstances', ref, query, context, undefined);
      const list = record(answer['Instances'])?.['Instance'];
      const found = (Array.isArray(list) ? list : []).map(record).find((i) => i?.['InstanceId'] === ref.instanceID);
      if (!found) throw new CloudError('NotFound', 'InvalidInstanceId.NotFound', `ECS has no instance ${ref.instanceID} in ${ref.region}`);
      return instanceOf(found);
    },
    restart: (ref, { mode, dryRun }, context) => act('RebootInstance', ref, { ForceStop: String(mode === 'hard') }, dryRun, context),
    // Charging goes on while stopped: an instance that gave its capacity back might not start again.
    stop: (ref, { mode, dryRun }, context) =>
      act('StopInstance', ref, { ForceStop: String(mode === 'hard'), StoppedMode: 'KeepCharging' }, dryRun, context),
    start: (ref, { dryRun }, context) => act('StartInstance', ref, {}, dryRun, context),
  };
}

function instanceOf(found: Record<string, unknown>): Instance {
  const ips = (value: unknown) => {
    const list = record(value)?.['IpAddress'];
    return (Array.isArray(list) ? list : [list]).filter((a): a is string => typeof a === 'string' && a !== '');
  };
  const state = text(found, 'Status');
  const launchTime = Date.parse(text(found, 'StartTime') || text(found, 'CreationTime'));
  return {
    powerState: POWER[state] ?? 'Unknown',
    providerState: state,
    type: text(found, 'InstanceType'),
    addresses: [
      ...[...ips(record(found['VpcAttributes'])?.['PrivateIpAddress']), ...ips(found['InnerIpAddress'])].map((address) => ({
        type: 'InternalIP' as const,
        address,
      })),
      ...[...ips(found['PublicIpAddress']), ...ips(found['EipAddress'])].map((address) => ({ type: 'ExternalIP' as const, address })),
    ],
    ...(!Number.isNaN(launchTime) && { launchTime: new Date(launchTime).toISOString() }),
    ...(text(found, 'ImageId') && { image: text(found, 'ImageId') }),
  };
}

/** The throttling header counts milliseconds: `Limit:10,Remain:0,TimeLeft:3000`. */
function retryAfter(answer: WireAnswer): string | undefined {
  const limit = answer.headers['x-ratelimit-user-api'] ?? answer.headers['x-ratelimit-user'];
  const left = /(?:^|,)\s*TimeLeft:(\d{1,9})/.exec(limit ?? '')?.[1];
  return left === undefined ? answer.headers['retry-after'] : String(Number(left) / 1000);
}

function jsonOf(answer: WireAnswer): Record<string, unknown> | undefined {
  try {
    return record(JSON.parse(answer.body.toString('utf8')));
  } catch {
    return undefined;
  }
}

function record(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : undefined;
}

function text(value: Record<string, unknown> | undefined, name: string): string {
  const found = value?.[name];
  return typeof found === 'string' ? found : '';
}
