import { readFile } from 'node:fs/promises';
import type { Account, Environment } from './definition.ts';
import type { Flight } from './flight.ts';
import { targetOf } from './flight.ts';
import type { Key } from './secrets.ts';
import { configuredKey } from './secrets.ts';
import { send } from './send.ts';

/** Temporary keys are replaced this long before they end. */
const RENEW_BEFORE_MILLISECONDS = 5 * 60_000;

/**
 * Gives the key of a Tencent account: files or named variables, a role by web identity (TKE OIDC), or the CAM role of the machine. Without
 * configuration: TENCENTCLOUD_SECRET_ID, _KEY (and _TOKEN or _SESSION_TOKEN), else the TKE_* variables that TKE injects, else the machine's CAM
 * role. Temporary keys are kept until shortly before they end; a failed lookup is not kept. Errors name files, variables and codes, never values.
 */
export function tencentCredentials(account: Account, environment: Environment): (flight: Flight) => Promise<Key> {
  let kept: { key: Key; until: number } | undefined;
  return async (flight) => {
    const direct = (await configuredKey(account, environment)) ?? environmentKey(account, environment);
    if (direct) return direct;
    if (kept && kept.until > Date.now()) return kept.key;
    const identity = webIdentity(account, environment);
    // A flight of its own: looking up a key has no side effect and does not count as sent.
    const lookup: Flight = { signal: flight.signal, beforeSend: undefined, sent: false, refused: undefined, failure: '' };
    const fresh = identity ? await assumeRole(identity, account, lookup) : await machineRole(account, environment, lookup);
    kept = { key: fresh.key, until: fresh.ends - RENEW_BEFORE_MILLISECONDS };
    return fresh.key;
  };
}

function environmentKey(account: Account, environment: Environment): Key | undefined {
  if (Object.keys(account.credentials).length > 0) return undefined;
  const { TENCENTCLOUD_SECRET_ID: id, TENCENTCLOUD_SECRET_KEY: secret } = environment;
  if (!id || !secret) return undefined;
  return { id, secret, token: environment['TENCENTCLOUD_TOKEN'] || environment['TENCENTCLOUD_SESSION_TOKEN'] || undefined };
}

type WebIdentity = { arn: string; provider: string; tokenFile: string; region: string; sessionName: string; endpoint: string };

function webIdentity(account: Account, environment: Environment): WebIdentity | undefined {
  const { role, instanceRole } = account.credentials;
  if (instanceRole !== undefined) return undefined;
  const { TKE_ROLE_ARN, TKE_PROVIDER_ID, TKE_WEB_IDENTITY_TOKEN_FILE, TKE_REGION } = environment;
  const arn = role?.arn ?? TKE_ROLE_ARN;
  if (!arn) return undefined;
  const provider = role?.provider ?? TKE_PROVIDER_ID;
  const tokenFile = role?.webIdentityTokenFile ?? TKE_WEB_IDENTITY_TOKEN_FILE;
  if (!provider || !tokenFile) throw new Error('the role needs a provider and a token file (TKE_PROVIDER_ID, TKE_WEB_IDENTITY_TOKEN_FILE)');
  const internal = account.endpoint === 'internal' ? 'internal.' : '';
  return {
    arn,
    provider,
    tokenFile,
    region: TKE_REGION || account.region || 'ap-guangzhou',
    sessionName: role?.sessionName ?? 'fairlead-hub',
    endpoint: role?.stsEndpoint ?? `https://sts.${internal}tencentcloudapi.com`,
  };
}

type Fresh = { key: Key; ends: number };

/** STS AssumeRoleWithWebIdentity, API version 2018-08-13; the request is not signed, the token is the proof. */
async function assumeRole(identity: WebIdentity, account: Account, flight: Flight): Promise<Fresh> {
  const token = await readFile(identity.tokenFile, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new Error(`token file ${identity.tokenFile} cannot be read (${error.code ?? error.name})`);
  });
  const url = new URL(identity.endpoint);
  const answer = await send(
    targetOf(url, account.ca),
    {
      method: 'POST',
      path: '/',
      headers: {
        host: url.host,
        'content-type': 'application/json',
        authorization: 'SKIP',
        'x-tc-action': 'AssumeRoleWithWebIdentity',
        'x-tc-version': '2018-08-13',
        'x-tc-region': identity.region,
        'x-tc-timestamp': String(Math.floor(Date.now() / 1000)),
      },
      body: JSON.stringify({
        ProviderId: identity.provider,
        WebIdentityToken: token.trim(),
        RoleArn: identity.arn,
        RoleSessionName: identity.sessionName,
      }),
    },
    flight,
  );
  const response = field(parse(answer.body), 'Response');
  const code = field(field(response, 'Error'), 'Code');
  if (code !== undefined) throw new Error(`STS refused the role (${String(code).slice(0, 100)})`);
  const given = field(response, 'Credentials');
  return fresh(field(given, 'TmpSecretId'), field(given, 'TmpSecretKey'), field(given, 'Token'), field(response, 'ExpiredTime'), 'STS');
}

const METADATA = 'http://metadata.tencentyun.com';

/** The CAM role bound to the machine, from its metadata service. TENCENTCLOUD_METADATA_ENDPOINT points elsewhere where that host is not reachable. */
async function machineRole(account: Account, environment: Environment, flight: Flight): Promise<Fresh> {
  const url = new URL(environment['TENCENTCLOUD_METADATA_ENDPOINT'] || METADATA);
  const get = async (name: string): Promise<Buffer> => {
    const path = `/latest/meta-data/cam/security-credentials/${name}`;
    const answer = await send(targetOf(url, undefined), { method: 'GET', path, headers: { host: url.host }, body: '' }, flight);
    if (answer.status !== 200) throw new Error(`the metadata service answered ${answer.status}: no CAM role is bound to this machine`);
    return answer.body;
  };
  const role = account.credentials.instanceRole || (await get('')).toString('utf8').trim();
  if (!/^[\w+=,.@-]{1,128}$/.test(role)) throw new Error('the metadata service names no CAM role');
  const given = parse(await get(encodeURIComponent(role)));
  return fresh(
    field(given, 'TmpSecretId'),
    field(given, 'TmpSecretKey'),
    field(given, 'Token'),
    field(given, 'ExpiredTime'),
    'the metadata service',
  );
}

function fresh(id: unknown, secret: unknown, token: unknown, ends: unknown, from: string): Fresh {
  if (typeof id !== 'string' || typeof secret !== 'string' || typeof token !== 'string' || typeof ends !== 'number')
    throw new Error(`${from} gave no usable key`);
  return { key: { id, secret, token }, ends: ends * 1000 };
}

function parse(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    throw new Error('the answer with the key is not JSON');
  }
}

function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name) ? Reflect.get(value, name) : undefined;
}
