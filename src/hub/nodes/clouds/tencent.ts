import type { CallContext, Cloud, Instance, PowerState } from './cloud.ts';
import { CloudError } from './cloud.ts';
import type { Account, CloudDefinition, Environment } from './definition.ts';
import type { CodeTable } from './failure.ts';
import { credentialsError, lostError, refusalError } from './failure.ts';
import type { Flight } from './flight.ts';
import { endpointURLProblem, fly, TransportError, targetOf } from './flight.ts';
import { oneRequestAgent } from './one-request-agent.ts';
import type { InstanceRef, NodeIdentity } from './provider-id.ts';
import { ProviderIDError, quote } from './provider-id.ts';
import { tencentCredentials } from './tencent-credentials.ts';

const INSTANCE = /^ins-[0-9a-z]{6,16}$/;
const REGION = /^[a-z]{2}-[a-z]{3,20}(?:-[a-z]{2,10})?$/;
const ZONE = /^([a-z]{2}-[a-z]{3,20}(?:-[a-z]{2,10})?)-\d{1,3}$/;
const NUMERIC_ZONE = /^\d{1,12}$/;

const OTHER_KINDS: readonly (readonly [prefix: string, what: string])[] = [
  ['np-', 'a TKE native node is restarted through its Machine object, not as a CVM instance'],
  ['eklet-', 'a super node (eklet) has no machine of its own'],
  ['eks-', 'a super node has no machine of its own'],
  ['lh', 'a Lighthouse instance is not a CVM instance'],
  ['ins-', 'the CVM instance id is malformed'],
];

/**
 * Tencent Cloud CVM, API version 2017-03-12. SDK: tencentcloud-sdk-nodejs-cvm. The key is fetched first, then the SDK signs (TC3-HMAC-SHA256) and
 * sends through an agent made for this one call (one-request-agent.ts), whose connection asks `beforeSend` at the write. The SDK does not retry.
 */
export const tencent: CloudDefinition = {
  name: 'tencent',
  forms: ['qcloud:///<zone number>/ins-<id>', 'tencentcloud:///<zone>/ins-<id>'],
  schemes: ['qcloud', 'tencentcloud'],
  credentials: ['files', 'env', 'role', 'instanceRole'],
  parse,
  checkEndpoint,
  connect,
};

function checkEndpoint(endpoint: string): string | undefined {
  if (endpoint === 'public' || endpoint === 'internal') return undefined;
  const problem = endpointURLProblem(endpoint);
  if (problem) return `must be public, internal or a URL; the URL ${problem}`;
  // The first label of the host is the service in the signature's scope.
  return new URL(endpoint).hostname.startsWith('cvm.') ? undefined : 'the host must begin with cvm. (it is part of the signature)';
}

function parse({ name, providerID, labels }: NodeIdentity, account: Account, environment: Environment): InstanceRef {
  const refuse = (why: string) => new ProviderIDError(`ProviderID ${quote(providerID)}: ${why}`);
  const match = /^(qcloud|tencentcloud):\/\/\/([^/]{1,64})\/([^/]{1,64})$/.exec(providerID);
  const [scheme = '', zone = '', instanceID = ''] = match?.slice(1) ?? [];
  const zoneRegion = ZONE.exec(zone)?.[1];
  if (!match || (zoneRegion === undefined && !NUMERIC_ZONE.test(zone))) throw refuse(`must have the form ${tencent.forms.join(' or ')}`);
  if (!INSTANCE.test(instanceID))
    throw refuse(OTHER_KINDS.find(([prefix]) => instanceID.startsWith(prefix))?.[1] ?? 'only CVM instances (ins-<id>) can be restarted');
  const region =
    account.region ??
    regionOfLabels(labels) ??
    (scheme === 'tencentcloud' ? zoneRegion : undefined) ??
    (REGION.test(environment['TENCENTCLOUD_REGION'] ?? '') ? environment['TENCENTCLOUD_REGION'] : undefined);
  if (region === undefined)
    throw refuse(
      `it does not name the region; set region in the cloud configuration, or TENCENTCLOUD_REGION, or the label topology.kubernetes.io/region (for example ap-guangzhou) on node ${quote(name)}`,
    );
  return { cloud: 'tencent', account: account.name, region, zone, instanceID };
}

function regionOfLabels(labels: Record<string, string>): string | undefined {
  const region = labels['topology.kubernetes.io/region'];
  if (region !== undefined && REGION.test(region)) return region;
  for (const label of ['topology.com.tencent.cloud.csi.cbs/zone', 'topology.kubernetes.io/zone']) {
    const found = ZONE.exec(labels[label] ?? '')?.[1];
    if (found !== undefined) return found;
  }
  return undefined;
}

const CODES: CodeTable = [
  ['NotFound', ['InvalidInstanceId.NotFound', 'InvalidInstance.NotFound', 'ResourceNotFound*']],
  ['Throttled', ['RequestLimitExceeded*', 'LimitExceeded.Request*']],
  [
    'Conflict',
    [
      'IncorrectInstanceState*',
      'UnsupportedOperation.InstanceState*',
      'InvalidInstanceState*',
      'MutexOperation*',
      'OperationDenied.InstanceOperationInProgress',
      'OperationConflict*',
      'ResourceInUse*',
    ],
  ],
  ['Forbidden', ['UnauthorizedOperation*', 'AuthFailure*', 'OperationDenied*', 'AccountQualificationRestrictions*']],
  [
    'Transient',
    ['InternalError*', 'InternalServerError*', 'FailedOperation*', 'ServiceUnavailable*', 'ResourceInsufficient*', 'ResourceUnavailable*'],
  ],
  [
    'Invalid',
    [
      'InvalidInstance*',
      'InvalidParameter*',
      'InvalidAction*',
      'MissingParameter*',
      'UnknownParameter*',
      'UnsupportedOperation*',
      'UnsupportedRegion*',
      'NoSuchVersion',
      'UnsupportedProtocol',
    ],
  ],
];

const POWER: Record<string, PowerState> = {
  PENDING: 'Starting',
  RUNNING: 'Running',
  STOPPED: 'Stopped',
  STARTING: 'Starting',
  STOPPING: 'Stopping',
  REBOOTING: 'Rebooting',
  SHUTDOWN: 'Terminated',
  TERMINATING: 'Terminated',
};

/** What is read of the SDK's error: no definite `code` means that no readable answer came. */
type SDKError = Error & { code?: unknown; httpCode?: unknown; requestId?: unknown };

function connect(account: Account, environment: Environment): Cloud {
  const keyFor = tencentCredentials(account, environment);
  const endpoint = new URL(
    account.endpoint === undefined || account.endpoint === 'public'
      ? 'https://cvm.tencentcloudapi.com'
      : account.endpoint === 'internal'
        ? 'https://cvm.internal.tencentcloudapi.com'
        : account.endpoint,
  );
  const load = () => import('tencentcloud-sdk-nodejs-cvm');
  type Client = InstanceType<Awaited<ReturnType<typeof load>>['cvm']['v20170312']['Client']>;

  const call = <T>(
    action: string,
    ref: InstanceRef,
    context: Pick<CallContext, 'signal'>,
    beforeSend: (() => void) | undefined,
    work: (client: Client, options: { signal: AbortSignal }) => Promise<T>,
  ): Promise<T> => {
    const what = `CVM ${action} of ${ref.instanceID} in ${ref.region}`;
    const attempt = async (flight: Flight) => {
      const { cvm } = await load();
      const key = await keyFor(flight).catch((error: unknown) => {
        if (error instanceof TransportError) throw error;
        throw credentialsError(what, error instanceof Error ? error.message : 'lookup failed');
      });
      const client = new cvm.v20170312.Client({
        credential: { secretId: key.id, secretKey: key.secret, ...(key.token !== undefined && { token: key.token }) },
        region: ref.region,
        profile: {
          signMethod: 'TC3-HMAC-SHA256',
          language: 'en-US',
          httpProfile: {
            protocol: `${endpoint.protocol}//`,
            endpoint: endpoint.host,
            reqTimeout: account.timeoutMilliseconds / 1000,
            agent: oneRequestAgent(targetOf(endpoint, account.ca), flight),
          },
        },
      });
      return work(client, { signal: flight.signal });
    };
    return fly({ signal: context.signal, beforeSend, timeoutMilliseconds: account.timeoutMilliseconds, what }, attempt, (error, flight) =>
      explain(what, error, flight),
    );
  };

  const describe: Cloud['describe'] = (ref, context) =>
    call('DescribeInstances', ref, context, undefined, async (client, options) => {
      const answer = await client.request('DescribeInstances', { InstanceIds: [ref.instanceID] }, options);
      const set: unknown[] = Array.isArray(answer?.InstanceSet) ? answer.InstanceSet : [];
      const found = set.filter(isRecord).find((i) => i['InstanceId'] === ref.instanceID);
      if (!found) throw new CloudError('NotFound', 'InvalidInstanceId.NotFound', `CVM has no instance ${ref.instanceID} in ${ref.region}`);
      return instanceOf(found);
    });

  /** CVM has no dry run of these calls: a dry run describes. */
  const act = async (action: string, ref: InstanceRef, parameters: Record<string, string>, dryRun: boolean, context: CallContext) => {
    if (dryRun) await describe(ref, context);
    else
      await call(action, ref, context, context.beforeSend, (client, options) =>
        client.request(action, { InstanceIds: [ref.instanceID], ...parameters }, options),
      );
  };

  return {
    name: 'tencent',
    hardRestart: true,
    describe,
    restart: (ref, { mode, dryRun }, context) =>
      act('RebootInstances', ref, { StopType: mode === 'hard' ? 'HARD' : 'SOFT' }, dryRun, context),
    // Charging goes on while stopped: an instance that gave its capacity back might not start again.
    stop: (ref, { mode, dryRun }, context) =>
      act('StopInstances', ref, { StopType: mode === 'hard' ? 'HARD' : 'SOFT', StoppedMode: 'KEEP_CHARGING' }, dryRun, context),
    start: (ref, { dryRun }, context) => act('StartInstances', ref, {}, dryRun, context),
  };
}

function instanceOf(found: Record<string, unknown>): Instance {
  const text = (name: string) => (typeof found[name] === 'string' ? found[name] : '');
  const list = (name: string) => (Array.isArray(found[name]) ? found[name].filter((a): a is string => typeof a === 'string') : []);
  const state = text('InstanceState');
  return {
    powerState: POWER[state] ?? 'Unknown',
    providerState: state,
    type: text('InstanceType'),
    addresses: [
      ...list('PrivateIpAddresses').map((address) => ({ type: 'InternalIP' as const, address })),
      ...list('PublicIpAddresses').map((address) => ({ type: 'ExternalIP' as const, address })),
    ],
    ...(text('CreatedTime') && { launchTime: text('CreatedTime') }),
    ...(text('ImageId') && { image: text('ImageId') }),
  };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function explain(what: string, error: unknown, flight: Flight): CloudError {
  if (!(error instanceof Error) || error instanceof TransportError) return lostError(what, error, flight);
  const { code, httpCode, requestId, message }: SDKError = error;
  const requestID = typeof requestId === 'string' && requestId ? requestId : undefined;
  if ('traceId' in error && typeof code === 'string' && code)
    return refusalError(what, { code, message, status: 200, requestID, retryAfter: undefined }, CODES, flight);
  if (typeof httpCode === 'number')
    return refusalError(what, { code: '', message: '', status: httpCode, requestID, retryAfter: undefined }, CODES, flight);
  return lostError(what, error, flight);
}
