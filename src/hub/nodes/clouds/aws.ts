import type { EC2Client, Instance as EC2Instance, InstanceStateName } from '@aws-sdk/client-ec2';
import { awsCredentials } from './aws-credentials.ts';
import { awsRequestHandler } from './aws-handler.ts';
import type { CallContext, Cloud, Instance, PowerState } from './cloud.ts';
import { CloudError } from './cloud.ts';
import type { Account, CloudDefinition } from './definition.ts';
import type { CodeTable } from './failure.ts';
import { credentialsError, lostError, refusalError } from './failure.ts';
import type { Flight } from './flight.ts';
import { endpointURLProblem, fly, TransportError } from './flight.ts';
import type { InstanceRef, NodeIdentity } from './provider-id.ts';
import { ProviderIDError, quote } from './provider-id.ts';

/** Availability zone: `us-east-1a`, local zone `us-west-2-lax-1a`, wavelength zone `us-east-1-wl1-bos-wlz-1`. */
const ZONE = /^([a-z]{2}(?:-[a-z]{2,12}){1,3}-\d{1,2})(?:[a-z]|(?:-[a-z0-9]{1,8}){1,4})$/;
const INSTANCE = /^i-(?:[0-9a-f]{8}|[0-9a-f]{17})$/;

/**
 * Amazon EC2. SDK: @aws-sdk/client-ec2, with retries off and a request handler of our own (aws-handler.ts), which the SDK calls with the signed
 * request: there the connection is made and `beforeSend` asked at the write. Codes from the EC2 API reference, "Error codes".
 */
export const aws: CloudDefinition = {
  name: 'aws',
  forms: ['aws:///<availability zone>/i-<id>'],
  schemes: ['aws', 'eks-hybrid'],
  credentials: ['files', 'env', 'profile', 'role'],
  parse,
  checkEndpoint: (endpoint) =>
    endpoint === 'public'
      ? undefined
      : endpoint === 'internal'
        ? 'EC2 has no internal endpoint: give the URL of the interface endpoint, https://...'
        : endpointURLProblem(endpoint),
  connect,
};

function parse(identity: NodeIdentity, account: Account): InstanceRef {
  const { providerID } = identity;
  const refuse = (why: string) => new ProviderIDError(`ProviderID ${quote(providerID)}: ${why}`);
  if (providerID.startsWith('eks-hybrid://')) throw refuse('an EKS hybrid node is a machine outside EC2; AWS has no call that restarts it');
  const match = /^aws:\/\/\/([^/]{1,64})\/(.+)$/.exec(providerID);
  const [zone = '', id = ''] = match?.slice(1) ?? [];
  if (/(?:^|\/)fargate-/.test(id)) throw refuse('a Fargate node has no machine of its own that could be restarted; delete its Pod instead');
  if (/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]+$/.test(id)) throw refuse('a Fargate node has no machine of its own that could be restarted');
  const region = ZONE.exec(zone)?.[1];
  if (region === undefined || !INSTANCE.test(id)) throw refuse(`must have the form ${aws.forms.join(' or ')}`);
  return { cloud: 'aws', account: account.name, region, zone, instanceID: id };
}

const CODES: CodeTable = [
  ['NotFound', ['InvalidInstanceID.NotFound']],
  ['Throttled', ['RequestLimitExceeded', 'Throttl*', 'TooManyRequests*', 'RequestThrottled*', 'EC2ThrottledException', 'SlowDown']],
  ['Conflict', ['IncorrectInstanceState', 'IncorrectState', 'InvalidState', 'ConcurrentModification', 'DependencyViolation']],
  [
    'Forbidden',
    [
      'UnauthorizedOperation',
      'AuthFailure',
      'AccessDenied*',
      'OperationNotPermitted',
      'OptInRequired',
      'Blocked',
      'PendingVerification',
      'InvalidClientTokenId',
      'UnrecognizedClientException',
      'SignatureDoesNotMatch',
      'IncompleteSignature',
      'MissingAuthenticationToken',
      'ExpiredToken*',
      'RequestExpired',
      'InvalidIdentityToken',
      'IDPRejectedClaim',
    ],
  ],
  [
    'Invalid',
    ['InvalidInstanceID.Malformed', 'InvalidParameter*', 'UnsupportedOperation', 'UnknownParameter', 'MissingParameter', 'InvalidAction'],
  ],
  [
    'Transient',
    ['InsufficientInstanceCapacity', 'InsufficientHostCapacity', 'InsufficientCapacity', 'Internal*', 'Unavailable', 'ServiceUnavailable'],
  ],
];

const POWER: Record<InstanceStateName, PowerState> = {
  pending: 'Starting',
  running: 'Running',
  'shutting-down': 'Terminated',
  stopped: 'Stopped',
  stopping: 'Stopping',
  terminated: 'Terminated',
};

function connect(account: Account): Cloud {
  const load = () => import('./aws-sdk.ts');
  type SDK = Awaited<ReturnType<typeof load>>;
  const clients = new Map<string, EC2Client>();

  const clientFor = (sdk: SDK, region: string): EC2Client => {
    let client = clients.get(region);
    if (!client) {
      const credentials = awsCredentials(account, sdk, region);
      client = new sdk.EC2Client({
        region,
        maxAttempts: 1,
        requestHandler: awsRequestHandler(account),
        ...(account.credentials.profile !== undefined && { profile: account.credentials.profile }),
        ...(account.endpoint !== undefined && account.endpoint !== 'public' && { endpoint: account.endpoint }),
        ...(credentials && { credentials }),
      });
      clients.set(region, client);
    }
    return client;
  };

  const call = <T>(
    action: string,
    ref: InstanceRef,
    context: Pick<CallContext, 'signal'>,
    beforeSend: (() => void) | undefined,
    work: (client: EC2Client, sdk: SDK, options: { abortSignal: AbortSignal; flight: Flight }) => Promise<T>,
  ): Promise<T> => {
    const what = `EC2 ${action} of ${ref.instanceID} in ${ref.region}`;
    return fly(
      { signal: context.signal, beforeSend, timeoutMilliseconds: account.timeoutMilliseconds, what },
      async (flight) => {
        const sdk = await load();
        return work(clientFor(sdk, ref.region), sdk, { abortSignal: flight.signal, flight });
      },
      (error, flight) => explain(what, error, flight),
    );
  };

  const act = async (
    action: string,
    ref: InstanceRef,
    dryRun: boolean,
    context: CallContext,
    work: Parameters<typeof call<unknown>>[4],
  ) => {
    try {
      await call(action, ref, context, dryRun ? undefined : context.beforeSend, work);
    } catch (error) {
      if (!(dryRun && error instanceof CloudError && error.code === 'DryRunOperation')) throw error;
    }
  };

  return {
    name: 'aws',
    hardRestart: false,
    describe: (ref, context) =>
      call('DescribeInstances', ref, context, undefined, async (client, sdk, options) => {
        const answer = await client.send(new sdk.DescribeInstancesCommand({ InstanceIds: [ref.instanceID] }), options);
        const found = answer.Reservations?.flatMap((r) => r.Instances ?? []).find((i) => i.InstanceId === ref.instanceID);
        if (!found)
          throw new CloudError('NotFound', 'InvalidInstanceID.NotFound', `EC2 has no instance ${ref.instanceID} in ${ref.region}`);
        return instanceOf(found);
      }),
    restart: async (ref, { mode, dryRun }, context) => {
      if (mode === 'hard')
        throw new CloudError('Invalid', 'NoHardRestart', 'EC2 has no hard restart: stop the instance with force and start it again');
      await act('RebootInstances', ref, dryRun, context, (client, sdk, options) =>
        client.send(new sdk.RebootInstancesCommand({ InstanceIds: [ref.instanceID], DryRun: dryRun }), options),
      );
    },
    stop: (ref, { mode, dryRun }, context) =>
      act('StopInstances', ref, dryRun, context, (client, sdk, options) =>
        client.send(new sdk.StopInstancesCommand({ InstanceIds: [ref.instanceID], Force: mode === 'hard', DryRun: dryRun }), options),
      ),
    start: (ref, { dryRun }, context) =>
      act('StartInstances', ref, dryRun, context, (client, sdk, options) =>
        client.send(new sdk.StartInstancesCommand({ InstanceIds: [ref.instanceID], DryRun: dryRun }), options),
      ),
  };
}

function instanceOf(found: EC2Instance): Instance {
  const state = found.State?.Name;
  const addresses: Instance['addresses'] = [];
  const add = (type: Instance['addresses'][number]['type'], address: string | undefined) => {
    if (address) addresses.push({ type, address });
  };
  add('InternalIP', found.PrivateIpAddress);
  add('ExternalIP', found.PublicIpAddress);
  add('InternalDNS', found.PrivateDnsName);
  add('ExternalDNS', found.PublicDnsName);
  return {
    powerState: state === undefined ? 'Unknown' : (POWER[state] ?? 'Unknown'),
    providerState: state ?? '',
    type: found.InstanceType ?? '',
    addresses,
    ...(found.LaunchTime && { launchTime: found.LaunchTime.toISOString() }),
    ...(found.ImageId !== undefined && { image: found.ImageId }),
  };
}

/** Shape of the SDK's service errors (@smithy/core ServiceException). */
type ServiceError = Error & {
  $metadata?: { httpStatusCode?: number; requestId?: string };
  $response?: { statusCode?: number; headers?: Record<string, string> };
};

function explain(what: string, error: unknown, flight: Flight): CloudError {
  if (!(error instanceof Error) || error instanceof TransportError) return lostError(what, error, flight);
  const service: ServiceError = error;
  const status = service.$metadata?.httpStatusCode ?? service.$response?.statusCode;
  if (status !== undefined && '$fault' in error) {
    // The name is the code, except when the answer had none (a proxy's page): then the SDK calls it Unknown…
    const code = /^(?:Unknown.*|Error|EC2ServiceException|[45]\d\d)$/.test(error.name) ? '' : error.name;
    const retryAfter = service.$response?.headers?.['retry-after'];
    return refusalError(
      what,
      { code, message: code ? error.message : '', status, requestID: service.$metadata?.requestId, retryAfter },
      CODES,
      flight,
    );
  }
  if (!flight.sent && !flight.failure)
    return credentialsError(what, `${error.name}; set the environment, a profile, a role, or the account in the cloud configuration`);
  return lostError(what, error, flight);
}
