import type { X509Certificate } from 'node:crypto';
import { isValidAt, parseBundle } from '../certificates/bundle.ts';

/** How the front proxy (kube-aggregator) proves itself and passes on the caller. Header names and prefixes are lower case. */
export type RequestHeaderConfig = {
  /** PEM, as it stands in the ConfigMap; the only CA that the listener trusts. */
  caBundle: string;
  anchors: readonly X509Certificate[];
  /** Common names that a front proxy may have; empty means any. */
  allowedNames: readonly string[];
  usernameHeaders: readonly string[];
  uidHeaders: readonly string[];
  groupHeaders: readonly string[];
  extraHeaderPrefixes: readonly string[];
  /** The CA of client certificates of users (`--client-ca-file` of kube-apiserver), for those who come to the hub itself; undefined when there is none. */
  clientCA: { bundle: string; anchors: readonly X509Certificate[] } | undefined;
};

/** The keys of ConfigMap kube-system/extension-apiserver-authentication that are read here. */
export type AuthenticationData = Readonly<Record<string, string | undefined>>;

function stringList(data: AuthenticationData, key: string): string[] {
  const text = data[key];
  if (text === undefined || text === '') return [];
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = undefined;
  }
  if (!Array.isArray(value) || !value.every((item) => typeof item === 'string')) throw new Error(`${key} is not a JSON array of strings`);
  return value;
}

function headerList(data: AuthenticationData, key: string): string[] {
  return stringList(data, key).map((name) => {
    // An empty prefix would make every header of a request part of the caller's identity.
    if (name.trim() === '') throw new Error(`${key} has an empty name`);
    return name.toLowerCase();
  });
}

/**
 * Reads the ConfigMap's data. Throws an Error that says which key is wrong: then nobody is a front proxy.
 * A bundle without any root is refused, because OpenSSL would trust nothing that it signed, without a word.
 */
export function parseRequestHeaderConfig(data: AuthenticationData): RequestHeaderConfig {
  const caBundle = data['requestheader-client-ca-file'] ?? '';
  if (caBundle.trim() === '')
    throw new Error('requestheader-client-ca-file is missing: kube-apiserver needs --requestheader-client-ca-file');
  let anchors: X509Certificate[];
  try {
    anchors = parseBundle(caBundle);
  } catch (error) {
    throw new Error('requestheader-client-ca-file has a certificate that cannot be read', { cause: error });
  }
  if (anchors.length === 0) throw new Error('requestheader-client-ca-file has no certificate');
  if (!anchors.some((anchor) => anchor.checkIssued(anchor)))
    throw new Error('requestheader-client-ca-file has no self-signed (root) certificate');
  const usernameHeaders = headerList(data, 'requestheader-username-headers');
  if (usernameHeaders.length === 0) throw new Error('requestheader-username-headers is missing');
  return {
    caBundle,
    anchors,
    allowedNames: stringList(data, 'requestheader-allowed-names'),
    usernameHeaders,
    uidHeaders: headerList(data, 'requestheader-uid-headers'),
    groupHeaders: headerList(data, 'requestheader-group-headers'),
    extraHeaderPrefixes: headerList(data, 'requestheader-extra-headers-prefix'),
    clientCA: clientCA(data),
  };
}

/** A bundle that cannot be read trusts nobody: it is not what this API server lives by. */
function clientCA(data: AuthenticationData): RequestHeaderConfig['clientCA'] {
  const bundle = data['client-ca-file'] ?? '';
  try {
    const anchors = parseBundle(bundle);
    return anchors.length > 0 ? { bundle, anchors } : undefined;
  } catch {
    return undefined;
  }
}

/** Whether any CA of the configuration can still vouch for somebody. */
export function hasValidAnchor(config: RequestHeaderConfig, at: Date): boolean {
  return config.anchors.some((anchor) => isValidAt(anchor, at));
}
