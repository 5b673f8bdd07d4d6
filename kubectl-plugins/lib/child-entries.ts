import { resolve } from 'node:path';
import type { ClusterEntry, UserEntry } from '../../src/kube/kubeconfig-file.ts';
import type { ChildCredential } from './child-credential.ts';
import type { Access } from './kubeconfig.ts';

/** What a kubeconfig needs to reach a child cluster; cluster and context have the same name. */
export type ChildEntries = {
  name: string;
  cluster: ClusterEntry & { server: string };
  /** Undefined: the parent's own entry of the name `userName` serves as it is. */
  user: UserEntry | undefined;
  userName: string;
  namespace: string | undefined;
};

/** Where the hub itself can be reached. */
export type DirectAddress = {
  url: string;
  /** Base64 of PEM; undefined: what the machine trusts. */
  ca: string | undefined;
};

/** Path of a child's API server behind the parent's, or behind the hub's own address. */
export const childPath = (clusterID: string): string =>
  `/apis/proxies.clusternet.io/v1alpha1/sockets/${encodeURIComponent(clusterID)}/proxy/direct`;

/** The cluster entry: everything as for the parent, but the path; or the hub's own address with its own CA. */
export function childCluster(parent: Access['cluster'], clusterID: string, direct: DirectAddress | undefined): ChildEntries['cluster'] {
  const cluster: ChildEntries['cluster'] = {
    ...parent,
    server: `${(direct?.url ?? parent.server).replace(/\/+$/, '')}${childPath(clusterID)}`,
  };
  const file = cluster['certificate-authority'];
  if (file) cluster['certificate-authority'] = resolve(file);
  if (!cluster['insecure-skip-tls-verify']) delete cluster['insecure-skip-tls-verify'];
  if (direct) {
    // They belong to the parent's address. A proxy stays: who needs one to leave needs it for the hub too.
    delete cluster['certificate-authority'];
    delete cluster['certificate-authority-data'];
    delete cluster['tls-server-name'];
    delete cluster['insecure-skip-tls-verify'];
    if (direct.ca) cluster['certificate-authority-data'] = direct.ca;
  }
  return cluster;
}

/** The user entry: the parent's credentials as they are, with files made absolute, and whom they impersonate. */
export function childUser(access: Access, child: ChildCredential | undefined): UserEntry {
  const user: UserEntry = { ...access.user };
  for (const field of ['client-certificate', 'client-key', 'tokenFile'] as const) {
    const path = user[field];
    if (path) user[field] = resolve(path);
  }
  // A command without a separator is looked up in PATH.
  if (user.exec?.command && /[/\\]/.test(user.exec.command)) user.exec = { ...user.exec, command: resolve(user.exec.command) };
  for (const field of ['as', 'as-uid', 'as-groups', 'as-user-extra'] as const) delete user[field];
  const {
    user: name,
    uid,
    groups,
    extra,
  } = child ? { user: child.as, extra: child.extra, uid: undefined, groups: undefined } : (access.impersonate ?? {});
  if (name) user.as = name;
  if (uid) user['as-uid'] = uid;
  if (groups) user['as-groups'] = groups;
  if (extra) user['as-user-extra'] = extra;
  return user;
}

/** A kubeconfig of its own. */
export function standalone({ name, cluster, user, userName, namespace }: ChildEntries): Record<string, unknown> {
  return {
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': name,
    clusters: [{ name, cluster }],
    contexts: [{ name, context: { cluster: name, user: userName, ...(namespace && { namespace }) } }],
    users: [{ name: userName, user: user ?? {} }],
  };
}
