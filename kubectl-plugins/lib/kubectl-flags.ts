import type { Flag } from './flags.ts';

const text = (name: string, help: string, more: Partial<Flag> = {}): Flag => ({ name, kind: 'text', help, ...more });

/** Flags of `kubectl options` that change how the cluster is reached. */
export const CONNECTION_FLAGS: readonly Flag[] = [
  text('as', 'Username to impersonate; may be a service account', { placeholder: 'USER' }),
  { name: 'as-group', kind: 'list', help: 'Group to impersonate; may be repeated', placeholder: 'GROUP' },
  text('as-uid', 'UID to impersonate', { placeholder: 'UID' }),
  { name: 'as-user-extra', kind: 'list', help: 'Extra attribute to impersonate, key=value; may be repeated', placeholder: 'KEY=VALUE' },
  text('certificate-authority', 'File with the certificate authority', { placeholder: 'FILE' }),
  text('client-certificate', 'File with the client certificate', { placeholder: 'FILE' }),
  text('client-key', 'File with the key of the client certificate', { placeholder: 'FILE' }),
  text('cluster', 'Cluster of the kubeconfig to use', { placeholder: 'NAME', lookup: 'clusters' }),
  text('context', 'Context of the kubeconfig to use', { placeholder: 'NAME', lookup: 'contexts' }),
  { name: 'insecure-skip-tls-verify', kind: 'switch', help: "Do not check the server's certificate. Makes the connection insecure" },
  text('kubeconfig', 'Kubeconfig file to use', { placeholder: 'FILE' }),
  text('password', 'Password for basic authentication', { placeholder: 'TEXT' }),
  text('request-timeout', 'Give up on one request after this long; 0: when the server does', { placeholder: 'DURATION', default: '0' }),
  text('server', 'Address of the Kubernetes API server', { short: 's', placeholder: 'URL' }),
  text('tls-server-name', "Name that the server's certificate must carry", { placeholder: 'NAME' }),
  text('token', 'Bearer token', { placeholder: 'TEXT' }),
  text('user', 'User of the kubeconfig to use', { placeholder: 'NAME', lookup: 'users' }),
  text('username', 'Username for basic authentication', { placeholder: 'TEXT' }),
  text('v', 'Log requests to stderr from 6 on', { short: 'v', placeholder: 'LEVEL', default: '0' }),
];

/** Flags of `kubectl options` that mean nothing here and are taken so that scripts with them work. */
export const ACCEPTED_FLAGS: readonly Flag[] = [
  text('cache-dir', 'Accepted; nothing is cached', { placeholder: 'FOLDER' }),
  { name: 'disable-compression', kind: 'switch', help: 'Accepted; answers are never compressed' },
  text('kuberc', 'Accepted; not read', { placeholder: 'FILE' }),
  text('log-flush-frequency', 'Accepted; logs are never held back', { placeholder: 'DURATION' }),
  { name: 'match-server-version', kind: 'switch', help: 'Accepted; the API has one version' },
  text('namespace', 'Accepted; nodes are not in namespaces', { short: 'n', placeholder: 'NAME' }),
  text('profile', 'Accepted; nothing is profiled', { placeholder: 'NAME' }),
  text('profile-output', 'Accepted; nothing is profiled', { placeholder: 'FILE' }),
  text('vmodule', 'Accepted; use -v', { placeholder: 'LIST' }),
];

/** Flags that change what a warning of the server does. */
export const WARNING_FLAGS: readonly Flag[] = [
  { name: 'warnings-as-errors', kind: 'switch', help: 'End with an error when the server sent a warning' },
];

export const HELP_FLAG: Flag = { name: 'help', short: 'h', kind: 'switch', help: 'Show this help' };

/** All flags that every command takes. */
export const KUBECTL_FLAGS: readonly Flag[] = [...CONNECTION_FLAGS, ...WARNING_FLAGS, ...ACCEPTED_FLAGS, HELP_FLAG];
