import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { ClusterEntry, ExecEntry } from '../../src/kube/kubeconfig-file.ts';

/** What an exec plugin answered. */
export type ExecCredential = {
  token?: string;
  /** PEM. */
  clientCertificateData?: string;
  /** PEM. */
  clientKeyData?: string;
  /** RFC 3339; absent: until the server refuses it. */
  expirationTimestamp?: string;
};

const VERSIONS = ['client.authentication.k8s.io/v1', 'client.authentication.k8s.io/v1beta1'];
/** The plugin's own settings for a cluster stand in this extension of the cluster. */
const EXTENSION = 'client.authentication.k8s.io/exec';

/**
 * Runs the exec plugin of a kubeconfig user and reads the ExecCredential it prints, as client-go does
 * (https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins). The plugin gets KUBERNETES_EXEC_INFO,
 * its stderr goes to ours, and it may read the terminal when `interactive`. Throws an Error with the plugin's installHint when it is not installed.
 */
export async function execCredential(
  exec: ExecEntry,
  cluster: ClusterEntry & { server: string },
  interactive: boolean,
  signal?: AbortSignal,
): Promise<ExecCredential> {
  const { command, apiVersion = '' } = exec;
  if (!command) throw new Error('the exec plugin in the kubeconfig has no command');
  if (!VERSIONS.includes(apiVersion)) {
    throw new Error(`the exec plugin ${command} has apiVersion "${apiVersion}" in the kubeconfig; known are ${VERSIONS.join(' and ')}`);
  }
  const mode = exec.interactiveMode ?? (apiVersion === VERSIONS[0] ? undefined : 'IfAvailable');
  if (!mode) throw new Error(`the exec plugin ${command} has no interactiveMode in the kubeconfig, which ${apiVersion} requires`);
  if (mode === 'Always' && !interactive) throw new Error(`the exec plugin ${command} needs a terminal to ask on, and stdin is none`);
  const withTerminal = mode !== 'Never' && interactive;
  const info = {
    kind: 'ExecCredential',
    apiVersion,
    spec: { interactive: withTerminal, ...(exec.provideClusterInfo && { cluster: clusterInfo(cluster) }) },
  };
  const env: NodeJS.ProcessEnv = { ...process.env };
  for (const { name, value } of exec.env ?? []) env[name] = value;
  env['KUBERNETES_EXEC_INFO'] = JSON.stringify(info);
  const printed = await run(command, exec.args ?? [], env, withTerminal, exec.installHint, signal);
  return credentialOf(printed, command, apiVersion);
}

function clusterInfo(cluster: ClusterEntry & { server: string }): Record<string, unknown> {
  const file = cluster['certificate-authority'];
  const data = cluster['certificate-authority-data'] || (file ? readFileSync(file).toString('base64') : undefined);
  const config = cluster.extensions?.find((extension) => extension.name === EXTENSION)?.extension;
  return {
    server: cluster.server,
    ...(cluster['tls-server-name'] && { 'tls-server-name': cluster['tls-server-name'] }),
    ...(cluster['insecure-skip-tls-verify'] && { 'insecure-skip-tls-verify': true }),
    ...(data && { 'certificate-authority-data': data }),
    ...(cluster['proxy-url'] && { 'proxy-url': cluster['proxy-url'] }),
    ...(config !== undefined && { config }),
  };
}

function run(
  command: string,
  args: string[],
  env: NodeJS.ProcessEnv,
  withTerminal: boolean,
  hint: string | undefined,
  signal: AbortSignal | undefined,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { env, stdio: [withTerminal ? 'inherit' : 'ignore', 'pipe', 'inherit'], ...(signal && { signal }) });
    const chunks: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
    child.on('error', (error) => {
      const absent = 'code' in error && error.code === 'ENOENT';
      const text = absent ? `the exec plugin ${command} is not installed` : `the exec plugin ${command} cannot be run: ${error.message}`;
      reject(new Error(absent && hint ? `${text}\n\n${hint.trim()}\n` : text, { cause: error }));
    });
    child.on('close', (code, killed) => {
      if (code === 0) resolve(Buffer.concat(chunks).toString('utf8'));
      else reject(new Error(`the exec plugin ${command} ended with ${killed ?? `exit code ${code}`}`));
    });
  });
}

function credentialOf(printed: string, command: string, apiVersion: string): ExecCredential {
  let answer: { kind?: string; apiVersion?: string; status?: ExecCredential } | null;
  try {
    answer = JSON.parse(printed) as typeof answer;
  } catch (error) {
    // What it printed may be half a credential: it is not shown.
    throw new Error(`the exec plugin ${command} did not print JSON`, { cause: error });
  }
  if (answer?.kind !== 'ExecCredential') throw new Error(`the exec plugin ${command} printed kind "${answer?.kind}", not ExecCredential`);
  if (answer.apiVersion !== apiVersion) {
    throw new Error(`the exec plugin ${command} answered in ${answer.apiVersion}, but the kubeconfig asks for ${apiVersion}`);
  }
  const status = answer.status;
  if (!status) throw new Error(`the exec plugin ${command} answered without a status`);
  if (!status.token && !(status.clientCertificateData && status.clientKeyData)) {
    throw new Error(`the exec plugin ${command} gave neither a token nor a client certificate with its key`);
  }
  return status;
}
