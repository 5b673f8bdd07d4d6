import { parse } from 'yaml';
import { CHILD_CREDENTIAL_FLAGS } from './child-credential.ts';
import { EXIT, ExitError, UsageError } from './exit.ts';
import { lifecyclePath } from './lifecycle.ts';
import { plainText } from './plain-text.ts';
import type { Session } from './session.ts';

const LARGEST = 1024 * 1024;
/** What says how a kubeconfig of our own is made. */
const OTHERS = ['direct', 'context-name', 'merge', ...CHILD_CREDENTIAL_FLAGS.map(({ name }) => name)];

/** The kubeconfig of the cluster's own administrator, from the machine. Throws UsageError, KubeError, or ExitError when it is none. */
export async function adminKubeconfig({ flags, api, signal, stdio }: Session, cluster: string): Promise<string> {
  const idle = OTHERS.find((name) => flags.given(name));
  if (idle) throw new UsageError(`--${idle} has no effect with --admin: the cluster's own kubeconfig is written as it is`);
  const response = await api().open({
    path: lifecyclePath(cluster, 'kubeconfig'),
    headers: { accept: 'application/yaml, */*' },
    signal,
  });
  response.setEncoding('utf8');
  let text = '';
  for await (const part of response) {
    text += String(part);
    if (text.length > LARGEST) throw new ExitError(EXIT.error, 'the answer is too long for a kubeconfig');
  }
  const server = serverOf(text);
  if (server === undefined) throw new ExitError(EXIT.error, `the machine of ${cluster} did not answer with a kubeconfig`);
  stdio.err(
    plainText(`note: it is of the cluster's administrator, and leads straight to ${server}, past this cluster and its audit log\n`),
  );
  return text;
}

function serverOf(text: string): string | undefined {
  try {
    const config = parse(text, { maxAliasCount: 0 }) as { kind?: unknown; clusters?: { cluster?: { server?: unknown } }[] } | null;
    const server = config?.kind === 'Config' ? config.clusters?.[0]?.cluster?.server : undefined;
    return typeof server === 'string' ? server : undefined;
  } catch {
    return undefined;
  }
}
