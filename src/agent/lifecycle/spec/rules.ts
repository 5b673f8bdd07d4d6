import { isIP } from 'node:net';
import { parseDuration } from '../../../kube/flags.ts';
import type { ClusterSpec } from '../../../kube/lifecycle.ts';
import type { StatusCause } from '../../../kube/status.ts';
import type { Facts } from '../machine/machine.ts';
import { subnetProblems } from './subnets.ts';

const LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const DNS_NAME = /^(\*\.)?[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*\.?$/i;
const HOST = /^([A-Za-z0-9]([-A-Za-z0-9.]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?$/;
const EXTRA_ARG = /^[A-Za-z]+\.[a-z0-9][-a-z0-9.]*$/;
/** A control plane whose certificates end sooner is never well; longer is not accepted by all clients. */
const SHORTEST_MS = 5 * 60_000;
const LONGEST_MS = 100 * 365 * 86_400_000;

/** Shorter, and an image that is being unpacked is taken for a broken one. */
const SHORTEST_PATIENCE_MS = 30_000;
const LONGEST_PATIENCE_MS = 20 * 60_000;

const wrong = (field: string, value: string, why: string): StatusCause => ({
  reason: 'FieldValueInvalid',
  message: `Invalid value: ${JSON.stringify(value.slice(0, 128))}: ${why}`,
  field: `spec.${field}`,
});
const required = (field: string, why: string): StatusCause => ({
  reason: 'FieldValueRequired',
  message: `Required value: ${why}`,
  field: `spec.${field}`,
});

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROL = /[\u0000-\u001f\u007f]/;

/** What is wrong with a complete spec whatever the distribution; fields begin with `spec.`. Nothing of the password is ever in a message. */
export function commonProblems(spec: ClusterSpec, facts: Pick<Facts, 'addresses'>): StatusCause[] {
  const causes: StatusCause[] = [];
  const { clusterName, networking, apiServer, certificates, artifacts, storage, extraArgs, upgrade } = spec;
  if (clusterName !== undefined && !LABEL.test(clusterName)) {
    causes.push(
      wrong('clusterName', clusterName, 'must be at most 63 lower case letters, digits and -, and begin and end with a letter or digit'),
    );
  }
  causes.push(...subnetProblems(networking?.podSubnet, networking?.svcSubnet, facts.addresses));
  for (const [field, value] of [
    ['networking.cniManifestURL', networking?.cniManifestURL],
    ['artifacts.source', artifacts?.source],
  ] as const) {
    const why = value && locationProblem(value, field === 'artifacts.source');
    if (why) causes.push(wrong(field, withoutSecrets(value), why));
  }
  const csi = storage?.clusterCsi?.name;
  if (csi !== undefined && csi !== '' && csi !== 'none' && csi !== 'local-path') {
    causes.push({
      reason: 'FieldValueNotSupported',
      message: `Unsupported value: ${JSON.stringify(csi.slice(0, 64))}: supported values: "local-path", "none"`,
      field: 'spec.storage.clusterCsi.name',
    });
  }
  for (const [index, name] of (apiServer?.certSANs ?? []).entries()) {
    if (isIP(name) === 0 && (!DNS_NAME.test(name) || name.length > 253 || /^[\d.]+$/.test(name))) {
      causes.push(wrong(`apiServer.certSANs[${index}]`, name, 'must be a DNS name or an IP address'));
    }
  }
  const [validity, caValidity] = (['validityPeriod', 'caValidityPeriod'] as const).map((name) => {
    const text = certificates?.[name];
    if (text === undefined || text === '') return undefined;
    const ms = parseDuration(text);
    if (ms === undefined || ms < SHORTEST_MS || ms > LONGEST_MS)
      causes.push(wrong(`certificates.${name}`, text, 'must be a duration such as 8760h, from 5m to 876000h'));
    return ms;
  });
  if (validity !== undefined && caValidity !== undefined && validity > caValidity) {
    causes.push(
      wrong(
        'certificates.validityPeriod',
        certificates?.validityPeriod ?? '',
        'must not be longer than spec.certificates.caValidityPeriod',
      ),
    );
  }
  const patience = upgrade?.componentTimeout;
  if (patience) {
    const ms = parseDuration(patience);
    if (ms === undefined || ms < SHORTEST_PATIENCE_MS || ms > LONGEST_PATIENCE_MS)
      causes.push(wrong('upgrade.componentTimeout', patience, 'must be a duration such as 5m, from 30s to 20m'));
  }
  for (const [name, value] of Object.entries(extraArgs ?? {})) {
    const field = `extraArgs[${name.slice(0, 64)}]`;
    if (!EXTRA_ARG.test(name)) causes.push(wrong(field, name, 'must be named COMPONENT.FLAG'));
    if (CONTROL.test(value)) causes.push(wrong(field, value, 'must not hold control characters'));
  }
  causes.push(...registryProblems(spec));
  return causes;
}

function registryProblems({ clusterRuntime }: ClusterSpec): StatusCause[] {
  const cri = clusterRuntime?.clusterCri;
  const at = 'clusterRuntime.clusterCri';
  const causes: StatusCause[] = [];
  if (clusterRuntime?.customiseClusterRuntime && !cri?.privateRegistryFQDN)
    causes.push(required(`${at}.privateRegistryFQDN`, 'customiseClusterRuntime is true'));
  if (cri?.privateRegistryFQDN && !HOST.test(cri.privateRegistryFQDN))
    causes.push(wrong(`${at}.privateRegistryFQDN`, withoutSecrets(cri.privateRegistryFQDN), 'must be a host or host:port'));
  for (const [index, endpoint] of (cri?.privateRegistryEndpoints ?? []).entries()) {
    const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
    const why =
      url?.protocol !== 'https:' && url?.protocol !== 'http:'
        ? 'must be an https:// or http:// URL'
        : url.username || url.password
          ? 'must hold no user name or password: use registryAuth'
          : url.protocol === 'http:' && !cri?.skipTls
            ? 'http:// needs skipTls'
            : undefined;
    if (why) causes.push(wrong(`${at}.privateRegistryEndpoints[${index}]`, withoutSecrets(endpoint), why));
  }
  const auth = cri?.registryAuth;
  if (auth?.isAuthRequired && !auth.username) causes.push(required(`${at}.registryAuth.username`, 'isAuthRequired is true'));
  if (auth?.isAuthRequired && !auth.password) causes.push(required(`${at}.registryAuth.password`, 'isAuthRequired is true'));
  if (auth?.username !== undefined && CONTROL.test(auth.username))
    causes.push(wrong(`${at}.registryAuth.username`, '...', 'must not hold control characters'));
  if (auth?.password !== undefined && CONTROL.test(auth.password))
    causes.push(wrong(`${at}.registryAuth.password`, '...', 'must not hold control characters'));
  for (const [index, file] of (cri?.certFiles ?? []).entries()) {
    if (!isPath(file)) causes.push(wrong(`${at}.certFiles[${index}]`, file, 'must be an absolute path without . or ..'));
  }
  return causes;
}

/** Why this is no place to get files from; undefined when it is one. */
function locationProblem(text: string, folder: boolean): string | undefined {
  if (folder && isPath(text)) return undefined;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const wanted = folder ? 'must be an absolute path or an https:// URL' : 'must be an https:// or file:// URL';
  if (url?.protocol !== 'https:' && (folder || url?.protocol !== 'file:')) return wanted;
  if (url.username || url.password) return 'must hold no user name or password';
  // A signature in it would stand in the status, in logs and in plans; nor would one that runs out serve an upgrade a year later.
  if (/[?#]/.test(text)) return 'must hold no query and no fragment: use a folder, or a server that needs no signed URLs';
  if (url.protocol === 'file:' && (url.host !== '' || !isPath(decodeURIComponent(url.pathname)))) return 'file:// needs an absolute path';
  return undefined;
}

const isPath = (text: string) =>
  text.startsWith('/') && !CONTROL.test(text) && !text.split('/').some((part) => part === '.' || part === '..');
/** What stands before an @ in the place of the host may be a password, and a query a signature. */
const withoutSecrets = (text: string) =>
  text
    .replace(/[?#].*$/s, '?...')
    .replace(/\/\/[^/]*@/, '//...@')
    .replace(/^[^/]*@/, '...@');

/** The causes of several rules, one for each field and reason. */
export function distinct(causes: readonly StatusCause[]): StatusCause[] {
  const seen = new Set<string>();
  return causes.filter(({ field = '', reason }) => {
    const key = `${field} ${reason}`;
    const fresh = !seen.has(key);
    seen.add(key);
    return fresh;
  });
}
