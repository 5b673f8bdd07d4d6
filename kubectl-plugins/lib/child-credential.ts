import { readFileSync } from 'node:fs';
import { readKubeconfig, type UserEntry } from '../../src/kube/kubeconfig-file.ts';
import { UsageError } from './exit.ts';
import type { Flag, ParsedFlags } from './flags.ts';

/** A credential of the child cluster, in the form in which clusternet's hub takes it: impersonation of `clusternet` with extras. */
export type ChildCredential = { as: 'clusternet'; extra: Record<string, string[]> };

export const CHILD_CREDENTIAL_FLAGS: readonly Flag[] = [
  {
    name: 'as-child-token-file',
    kind: 'text',
    placeholder: 'FILE',
    help: 'Act in the child by the bearer token in this file, which is copied, instead of by your own name',
  },
  {
    name: 'child-kubeconfig',
    kind: 'text',
    placeholder: 'FILE',
    help: "Act in the child by the token or certificate of this kubeconfig's current user, which is copied",
  },
];

/** The credential that the flags bring. Throws UsageError or an Error that names the file, never what is in it. */
export function childCredential(flags: ParsedFlags): ChildCredential | undefined {
  const tokenFile = flags.text('as-child-token-file');
  const kubeconfig = flags.text('child-kubeconfig');
  if (tokenFile === '' || kubeconfig === '') throw new UsageError('--as-child-token-file and --child-kubeconfig take the name of a file');
  if (tokenFile && kubeconfig) throw new UsageError('give either --as-child-token-file or --child-kubeconfig, not both');
  if (tokenFile) return byToken(readFileSync(tokenFile, 'utf8'), tokenFile);
  if (!kubeconfig) return undefined;
  const config = readKubeconfig(kubeconfig, {});
  const name = config.contexts.get(config.currentContext)?.user;
  const user = name === undefined ? undefined : config.users.get(name);
  if (!user) throw new Error(`${kubeconfig}: the current context has no user`);
  return byUser(user, kubeconfig);
}

function byUser(user: UserEntry, file: string): ChildCredential {
  if (user.tokenFile) return byToken(readFileSync(user.tokenFile, 'utf8'), user.tokenFile);
  if (user.token) return byToken(user.token, file);
  const certificate = user['client-certificate-data'] || fileBase64(user['client-certificate']);
  const key = user['client-key-data'] || fileBase64(user['client-key']);
  if (certificate && key) {
    return { as: 'clusternet', extra: { 'clusternet-certificate': [oneLine(certificate)], 'clusternet-privatekey': [oneLine(key)] } };
  }
  throw new Error(
    `${file}: the current user has neither a token nor a client certificate with its key; other ways to sign in cannot be handed on`,
  );
}

const fileBase64 = (path: string | undefined) => (path ? readFileSync(path).toString('base64') : undefined);
/** It becomes a header. */
const oneLine = (base64: string) => base64.replace(/\s+/g, '');

function byToken(text: string, file: string): ChildCredential {
  const token = text.trim();
  if (!/^[\x21-\x7e]+$/.test(token)) throw new Error(`${file} does not hold a bearer token`);
  return { as: 'clusternet', extra: { 'clusternet-token': [token] } };
}
