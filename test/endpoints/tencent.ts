import { timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Call, Endpoint, Reply } from './strict.ts';
import { hmac, serve, sha256 } from './strict.ts';

export type TencentInstance = { InstanceState: string; region: string };

export type TencentEndpoint = Endpoint & { instances: Map<string, TencentInstance>; issued: string[] };

/** A web identity token that the endpoint's STS accepts, and the role it is good for. */
export type TencentRole = { token: string; arn: string; provider: string };

class Refused extends Error {
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

const ACTIONS = ['DescribeInstances', 'RebootInstances', 'StopInstances', 'StartInstances'];
const REGIONS = ['ap-guangzhou', 'ap-shanghai', 'ap-singapore'];
const SKEW_SECONDS = 300;

/**
 * A CVM 2017-03-12 endpoint that refuses what the real one refuses. Signature by the public description of "Signature v3" (TC3-HMAC-SHA256). It
 * also answers STS AssumeRoleWithWebIdentity for `role`. Keys: id -> secret; temporary keys carry a token.
 */
export async function startTencent(options: {
  keys: Map<string, { secret: string; token?: string }>;
  role?: TencentRole;
  tls?: { key: string; cert: string };
}): Promise<TencentEndpoint> {
  const instances = new Map<string, TencentInstance>();
  const issued: string[] = [];
  let sequence = 0;

  const handle = (request: IncomingMessage, body: string, call: Call, fault: { code: string; message?: string } | undefined): Reply => {
    const RequestId = `00000000-0000-4000-8000-${String(++sequence).padStart(12, '0')}`;
    try {
      const response =
        request.headers['x-tc-action'] === 'AssumeRoleWithWebIdentity' ? assume(request, body) : work(request, body, call, fault);
      return { status: 200, json: { Response: { ...response, RequestId } } };
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      call.error = error.code;
      return { status: 200, json: { Response: { Error: { Code: error.code, Message: error.message }, RequestId } } };
    }
  };

  const assume = (request: IncomingMessage, body: string): Record<string, unknown> => {
    const { ProviderId, WebIdentityToken, RoleArn, RoleSessionName } = JSON.parse(body);
    if (request.headers['x-tc-version'] !== '2018-08-13') throw new Refused('NoSuchVersion', 'version');
    if (!RoleSessionName) throw new Refused('MissingParameter', 'RoleSessionName');
    const { role } = options;
    if (!role || role.token !== WebIdentityToken || role.arn !== RoleArn || role.provider !== ProviderId)
      throw new Refused('FailedOperation.AssumeRoleFailed', `token ${WebIdentityToken} refused`);
    const id = `AKIDtemporary${issued.length}`;
    issued.push(id);
    options.keys.set(id, { secret: `secret-of-${id}`, token: `token-of-${id}` });
    const ends = Math.floor(Date.now() / 1000) + 7200;
    return { Credentials: { TmpSecretId: id, TmpSecretKey: `secret-of-${id}`, Token: `token-of-${id}` }, ExpiredTime: ends };
  };

  const work = (request: IncomingMessage, body: string, call: Call, fault: { code: string; message?: string } | undefined) => {
    verify(request, body, options.keys);
    const header = (name: string) => String(request.headers[name] ?? '');
    if (!ACTIONS.includes(call.action)) throw new Refused('InvalidAction', `The action ${call.action} does not exist.`);
    if (header('x-tc-version') !== '2017-03-12') throw new Refused('NoSuchVersion', 'The version does not exist.');
    call.region = header('x-tc-region');
    if (!call.region) throw new Refused('MissingParameter', 'The request is missing the parameter `Region`.');
    if (!REGIONS.includes(call.region)) throw new Refused('UnsupportedRegion', `The region ${call.region} is not supported.`);
    const parameters: Record<string, unknown> = JSON.parse(body);
    call.parameters = parameters;
    if (fault) throw new Refused(fault.code, fault.message ?? 'injected');
    return perform(call, parameters, instances);
  };

  const host = 'cvm.localhost';
  const endpoint = await serve({ host, ...(options.tls && { tls: options.tls }), handle });
  return { ...endpoint, instances, issued };
}

function verify(request: IncomingMessage, body: string, keys: Map<string, { secret: string; token?: string }>): void {
  const header = (name: string) => String(request.headers[name] ?? '');
  const refuse = (code: string, message: string) => new Refused(`AuthFailure.${code}`, message);
  const parts =
    /^TC3-HMAC-SHA256 Credential=([^/\s]+)\/(\d{4}-\d\d-\d\d)\/([a-z]+)\/tc3_request, SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})$/.exec(
      header('authorization'),
    );
  const [, id = '', date = '', service = '', signedHeaders = '', signature = ''] = parts ?? [];
  if (!parts) throw refuse('SignatureFailure', 'The Authorization header is malformed.');
  if (service !== 'cvm') throw refuse('SignatureFailure', `The service ${service} does not match the host.`);
  const timestamp = header('x-tc-timestamp');
  if (!/^\d{10}$/.test(timestamp)) throw refuse('SignatureFailure', 'X-TC-Timestamp is missing.');
  if (Math.abs(Date.now() / 1000 - Number(timestamp)) > SKEW_SECONDS) throw refuse('SignatureExpire', 'The timestamp is too far off.');
  if (new Date(Number(timestamp) * 1000).toISOString().slice(0, 10) !== date)
    throw refuse('SignatureFailure', 'The date does not match the timestamp.');
  const key = keys.get(id);
  if (!key) throw refuse('SecretIdNotFound', `The SecretId ${id} is not found.`);
  if (key.token !== undefined && header('x-tc-token') !== key.token) throw refuse('TokenFailure', 'The token is wrong.');
  const names = signedHeaders.split(';');
  if (!names.includes('content-type') || !names.includes('host')) throw refuse('SignatureFailure', 'content-type and host must be signed.');
  if ([...names].sort().join() !== names.join()) throw refuse('SignatureFailure', 'The signed headers are not sorted.');
  const url = new URL(request.url ?? '/', 'http://x');
  // The SDKs sign the host without its port.
  const value = (name: string) => (name === 'host' ? header(name).replace(/:\d+$/, '') : header(name)).trim().toLowerCase();
  const canonical = [
    request.method,
    '/',
    url.search.slice(1),
    names.map((n) => `${n}:${value(n)}\n`).join(''),
    signedHeaders,
    sha256(body),
  ].join('\n');
  const toSign = ['TC3-HMAC-SHA256', timestamp, `${date}/${service}/tc3_request`, sha256(canonical)].join('\n');
  const expected = hmac(hmac(hmac(hmac(`TC3${key.secret}`, date), service), 'tc3_request'), toSign);
  if (!timingSafeEqual(expected, Buffer.from(signature, 'hex')))
    throw refuse('SignatureFailure', `The provided credentials could not be validated: ${header('authorization')}`);
}

const MUST_BE: Record<string, readonly string[]> = {
  RebootInstances: ['RUNNING'],
  StopInstances: ['RUNNING'],
  StartInstances: ['STOPPED'],
};
const ALLOWED: Record<string, readonly string[]> = {
  DescribeInstances: ['InstanceIds', 'Filters', 'Offset', 'Limit'],
  RebootInstances: ['InstanceIds', 'StopType', 'ForceReboot'],
  StopInstances: ['InstanceIds', 'StopType', 'ForceStop', 'StoppedMode'],
  StartInstances: ['InstanceIds'],
};

function perform(call: Call, parameters: Record<string, unknown>, instances: Map<string, TencentInstance>): Record<string, unknown> {
  for (const name of Object.keys(parameters)) {
    if (!ALLOWED[call.action]?.includes(name)) throw new Refused('UnknownParameter', `The parameter ${name} is unknown.`);
  }
  const ids = parameters['InstanceIds'];
  if (!Array.isArray(ids) || ids.length === 0 || ids.length > 100)
    throw new Refused('MissingParameter', 'InstanceIds must hold 1 to 100 ids.');
  const { StopType } = parameters;
  if (StopType !== undefined && (parameters['ForceReboot'] !== undefined || parameters['ForceStop'] !== undefined))
    throw new Refused('InvalidParameterCombination', 'ForceReboot or ForceStop cannot be used with StopType.');
  if (StopType !== undefined && !['SOFT', 'HARD', 'SOFT_FIRST'].includes(String(StopType)))
    throw new Refused('InvalidParameterValue', 'StopType is wrong.');
  for (const id of ids) {
    if (!/^ins-[0-9a-z]{8}$/.test(String(id))) throw new Refused('InvalidInstanceId.Malformed', `The id ${id} is malformed.`);
    if (instances.get(id)?.region !== call.region) throw new Refused('InvalidInstanceId.NotFound', `The id ${id} does not exist.`);
  }
  const found = ids.map((id) => ({ id, instance: instances.get(id) ?? { InstanceState: '', region: '' } }));
  if (call.action === 'DescribeInstances')
    return {
      TotalCount: ids.length,
      InstanceSet: found.map(({ id, instance }) => ({
        InstanceId: id,
        InstanceState: instance.InstanceState,
        InstanceType: 'S5.MEDIUM4',
        ImageId: 'img-00000001',
        PrivateIpAddresses: ['10.0.0.9'],
        PublicIpAddresses: null,
        CreatedTime: '2026-11-01T00:00:00Z',
      })),
    };
  for (const { instance } of found) {
    if (!MUST_BE[call.action]?.includes(instance.InstanceState))
      throw new Refused(
        `UnsupportedOperation.InstanceState${instance.InstanceState.charAt(0)}${instance.InstanceState.slice(1).toLowerCase()}`,
        'Wrong state.',
      );
  }
  for (const { instance } of found) {
    if (call.action === 'StopInstances') instance.InstanceState = 'STOPPED';
    if (call.action === 'StartInstances') instance.InstanceState = 'RUNNING';
  }
  call.effect = true;
  return {};
}
