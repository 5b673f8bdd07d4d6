import { timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Call, Endpoint, Reply } from './strict.ts';
import { hmac, serve, sha256 } from './strict.ts';

export type AlibabaInstance = { Status: string; region: string };

export type AlibabaEndpoint = Endpoint & { instances: Map<string, AlibabaInstance>; issued: string[] };

/** An OIDC token that the endpoint's STS accepts, and the role it is good for. */
export type AlibabaRole = { token: string; arn: string; provider: string };

class Refused extends Error {
  readonly status: number;
  readonly code: string;
  readonly headers: Record<string, string>;
  constructor(status: number, code: string, message: string, headers: Record<string, string> = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.headers = headers;
  }
}

const SKEW_MILLISECONDS = 15 * 60_000;

/**
 * An ECS 2014-05-26 endpoint that refuses what the real one refuses. Signature by the public description of "V3 request structure and signature"
 * (ACS3-HMAC-SHA256). Keys: id -> secret; temporary keys carry a token. It also answers STS AssumeRoleWithOIDC for `role`.
 */
export async function startAlibaba(options: {
  keys: Map<string, { secret: string; token?: string }>;
  role?: AlibabaRole;
  tls?: { key: string; cert: string };
}): Promise<AlibabaEndpoint> {
  const instances = new Map<string, AlibabaInstance>();
  const nonces = new Set<string>();
  const issued: string[] = [];
  let sequence = 0;

  const handle = (
    request: IncomingMessage,
    body: string,
    call: Call,
    fault: { status: number; code: string; message?: string; headers?: Record<string, string> } | undefined,
  ): Reply => {
    const RequestId = `00000000-0000-4000-8000-${String(++sequence).padStart(12, '0')}`;
    const query = new URL(request.url ?? '/', 'http://x').searchParams;
    try {
      if (query.get('Action') === 'AssumeRoleWithOIDC') return { status: 200, json: { RequestId, ...assume(new URLSearchParams(body)) } };
      verify(request, body, options.keys, nonces);
      if (request.headers['x-acs-version'] !== '2014-05-26') throw new Refused(404, 'InvalidVersion', 'Specified version is not valid.');
      call.parameters = Object.fromEntries(query);
      if (fault) throw new Refused(fault.status, fault.code, fault.message ?? 'injected', fault.headers);
      return { status: 200, json: { RequestId, ...perform(call, query, instances) } };
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      call.error = error.code;
      return {
        status: error.status,
        headers: error.headers,
        json: { RequestId, HostId: 'localhost', Code: error.code, Message: error.message },
      };
    }
  };

  const assume = (form: URLSearchParams): Record<string, unknown> => {
    const { role } = options;
    if (!role || form.get('OIDCToken') !== role.token || form.get('RoleArn') !== role.arn || form.get('OIDCProviderArn') !== role.provider)
      throw new Refused(400, 'AuthenticationFail.OIDCToken.Invalid', `token ${form.get('OIDCToken')} refused`);
    const id = `STS.temporary${issued.length}`;
    issued.push(id);
    options.keys.set(id, { secret: `secret-of-${id}`, token: `token-of-${id}` });
    const Expiration = `${new Date(Date.now() + 3_600_000).toISOString().slice(0, 19)}Z`;
    return { Credentials: { AccessKeyId: id, AccessKeySecret: `secret-of-${id}`, SecurityToken: `token-of-${id}`, Expiration } };
  };

  const endpoint = await serve({ host: 'localhost', ...(options.tls && { tls: options.tls }), handle });
  return { ...endpoint, instances, issued };
}

function encode(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}

function verify(request: IncomingMessage, body: string, keys: Map<string, { secret: string; token?: string }>, nonces: Set<string>): void {
  const header = (name: string) => String(request.headers[name] ?? '').trim();
  const parts = /^ACS3-HMAC-SHA256 Credential=([^,\s]+),SignedHeaders=([a-z0-9;-]+),Signature=([0-9a-f]{64})$/.exec(
    header('authorization'),
  );
  const [, id = '', signedHeaders = '', signature = ''] = parts ?? [];
  if (!parts) throw new Refused(400, 'IncompleteSignature', 'The Authorization header is malformed.');
  const key = keys.get(id);
  if (!key) throw new Refused(404, 'InvalidAccessKeyId.NotFound', `Specified access key ${id} is not found.`);
  if (key.token !== undefined && header('x-acs-security-token') !== key.token)
    throw new Refused(400, 'InvalidSecurityToken.Malformed', 'The security token is wrong.');
  const date = header('x-acs-date');
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(date)) throw new Refused(400, 'InvalidTimeStamp.Format', 'x-acs-date is malformed.');
  if (Math.abs(Date.now() - Date.parse(date)) > SKEW_MILLISECONDS)
    throw new Refused(400, 'InvalidTimeStamp.Expired', 'x-acs-date is expired.');
  const names = signedHeaders.split(';');
  const mustBeSigned = Object.keys(request.headers).filter(
    (n) => n === 'host' || n === 'content-type' || (n.startsWith('x-acs-') && n !== 'x-acs-signature'),
  );
  for (const name of [...mustBeSigned, 'x-acs-action', 'x-acs-version', 'x-acs-date', 'x-acs-signature-nonce', 'x-acs-content-sha256']) {
    if (!header(name)) throw new Refused(400, `Missing${name}`, `${name} is missing.`);
    if (!names.includes(name)) throw new Refused(400, 'IncompleteSignature', `${name} is not signed.`);
  }
  if ([...names].sort().join() !== names.join()) throw new Refused(400, 'IncompleteSignature', 'The signed headers are not sorted.');
  if (header('x-acs-content-sha256') !== sha256(body)) throw new Refused(400, 'InvalidContentSha256', 'The body does not match its hash.');
  const query = [...new URL(request.url ?? '/', 'http://x').searchParams]
    .map(([k, v]) => `${encode(k)}=${encode(v)}`)
    .sort()
    .join('&');
  if (new URL(request.url ?? '/', 'http://x').search.includes('+')) throw new Refused(400, 'SignatureDoesNotMatch', 'A blank must be %20.');
  const canonical = [request.method, '/', query, names.map((n) => `${n}:${header(n)}\n`).join(''), signedHeaders, sha256(body)].join('\n');
  const expected = hmac(key.secret, `ACS3-HMAC-SHA256\n${sha256(canonical)}`);
  if (!timingSafeEqual(expected, Buffer.from(signature, 'hex')))
    throw new Refused(400, 'SignatureDoesNotMatch', `Specified signature does not match: ${header('authorization')}`);
  if (nonces.has(header('x-acs-signature-nonce'))) throw new Refused(400, 'SignatureNonceUsed', 'The nonce was used.');
  nonces.add(header('x-acs-signature-nonce'));
}

const MUST_BE: Record<string, string> = { RebootInstance: 'Running', StopInstance: 'Running', StartInstance: 'Stopped' };
const ALLOWED: Record<string, readonly string[]> = {
  DescribeInstances: ['RegionId', 'InstanceIds', 'PageSize'],
  RebootInstance: ['InstanceId', 'ForceStop', 'DryRun'],
  StopInstance: ['InstanceId', 'ForceStop', 'DryRun', 'StoppedMode'],
  StartInstance: ['InstanceId', 'DryRun'],
};

function perform(call: Call, query: URLSearchParams, instances: Map<string, AlibabaInstance>): Record<string, unknown> {
  const allowed = ALLOWED[call.action];
  if (!allowed) throw new Refused(404, 'InvalidAction.NotFound', 'Specified api is not found.');
  for (const [name, value] of query) {
    if (!allowed.includes(name)) throw new Refused(400, 'InvalidParameter', `The parameter ${name} is not valid.`);
    if (['ForceStop', 'DryRun'].includes(name) && !['true', 'false'].includes(value))
      throw new Refused(400, 'InvalidParameter', `${name} is not valid.`);
  }
  if (call.action === 'DescribeInstances') {
    call.region = query.get('RegionId') ?? '';
    if (!call.region) throw new Refused(400, 'MissingParameter', 'RegionId is mandatory.');
    const ids: unknown = JSON.parse(query.get('InstanceIds') ?? '[]');
    const found = (Array.isArray(ids) ? ids : []).filter((id) => instances.get(id)?.region === call.region);
    const Instance = found.map((InstanceId) => ({
      InstanceId,
      Status: instances.get(InstanceId)?.Status,
      InstanceType: 'ecs.g7.large',
      ImageId: 'aliyun_3_x64',
      StartTime: '2026-11-01T00:00Z',
      VpcAttributes: { PrivateIpAddress: { IpAddress: ['172.16.0.4'] } },
      PublicIpAddress: { IpAddress: [] },
      EipAddress: { IpAddress: '203.0.113.7' },
    }));
    return { TotalCount: found.length, Instances: { Instance } };
  }
  const id = query.get('InstanceId');
  if (!id) throw new Refused(400, 'MissingInstanceId', 'InstanceId is mandatory.');
  const instance = instances.get(id);
  if (!instance) throw new Refused(404, 'InvalidInstanceId.NotFound', 'The specified InstanceId does not exist.');
  if (instance.Status !== MUST_BE[call.action])
    throw new Refused(403, 'IncorrectInstanceStatus', 'The current status of the resource does not support this operation.');
  if (query.get('DryRun') === 'true') throw new Refused(400, 'DryRunOperation', 'Request validation has been passed with DryRun flag set.');
  if (call.action === 'StopInstance') instance.Status = 'Stopped';
  if (call.action === 'StartInstance') instance.Status = 'Running';
  call.effect = true;
  return {};
}
