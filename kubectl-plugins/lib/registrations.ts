import { CLUSTER_NAME_LABEL, CLUSTERS_API, type ClusterRegistrationRequest, registrationName } from '../../src/kube/clusternet.ts';
import { KubeError } from '../../src/kube/errors.ts';
import type { Api } from './api.ts';
import { isClusterID } from './clusters.ts';
import { EXIT, ExitError, UsageError } from './exit.ts';
import { plainText } from './plain-text.ts';

export const REQUESTS = 'clusterregistrationrequests';

const KINDS = ['clsrr', 'clusterregistrationrequest', REQUESTS].flatMap((kind) => [kind, `${kind}.clusters.clusternet.io`]);
KINDS.push('cluster', 'clusters');

/** The name that the cluster goes by, '' when it has none. */
export const clusterNameOf = ({ metadata, spec, status }: ClusterRegistrationRequest): string =>
  status?.managedClusterName || spec.clusterName || metadata.labels?.[CLUSTER_NAME_LABEL] || '';

/** Whether nobody has decided yet. */
export const isPending = ({ status }: ClusterRegistrationRequest): boolean => !status?.result || status.result === 'Pending';

/** The registration requests that words name: names of requests, cluster ids or cluster names, each request once, in order. */
export async function findRegistrations(api: Api, words: readonly string[], signal: AbortSignal): Promise<ClusterRegistrationRequest[]> {
  const names = words.map(registrationWord);
  const found = new Map<string, ClusterRegistrationRequest>();
  let all: ClusterRegistrationRequest[] | undefined;
  for (const name of names) {
    // An id is never taken for a name: a cluster could call itself like the id of another that somebody waits for.
    const id = name.replace(/^clusternet-/, '').toLowerCase();
    let request: ClusterRegistrationRequest | undefined;
    if (isClusterID(id)) {
      // Who may read only some requests must be able to name them.
      request = await readRegistration(api, registrationName(id), signal);
      if (!request)
        throw new ExitError(EXIT.error, `no cluster with the id ${id} asked to be registered; see kubectl infra requests --all`);
    } else {
      all ??= await listRegistrations(api, signal);
      request = oneOf(name, all);
    }
    found.set(request.metadata.name, request);
  }
  return [...found.values()];
}

function registrationWord(word: string): string {
  const slash = word.indexOf('/');
  const name = word.slice(slash + 1);
  if (slash >= 0 && !KINDS.includes(word.slice(0, slash).toLowerCase()))
    throw new UsageError(`"${word}" is not a cluster: give NAME, cluster/NAME or clsrr/NAME`);
  if (!/^[a-z0-9]([a-z0-9._-]{0,251}[a-z0-9])?$/i.test(name)) throw new UsageError(`"${word}" is not the name or id of a cluster`);
  return name;
}

function oneOf(name: string, all: readonly ClusterRegistrationRequest[]): ClusterRegistrationRequest {
  const matching = all.filter((request) => [request.metadata.name, clusterNameOf(request), request.spec.clusterName].includes(name));
  const [request, ...others] = matching;
  if (!request) throw new ExitError(EXIT.error, `no cluster "${name}" asked to be registered; see kubectl infra requests --all`);
  if (others.length === 0) return request;
  const candidates = matching.map(
    (one) => `  ${one.metadata.name}   ${one.status?.result || 'Pending'}   ${one.metadata.creationTimestamp ?? ''}`,
  );
  throw new ExitError(
    EXIT.error,
    plainText(
      `${matching.length} clusters call themselves "${name}": nothing was done. Give one of these names:\n${candidates.join('\n')}`,
    ),
  );
}

async function readRegistration(api: Api, name: string, signal: AbortSignal): Promise<ClusterRegistrationRequest | undefined> {
  try {
    return (await api.ask<ClusterRegistrationRequest>({ path: `${CLUSTERS_API}/${REQUESTS}/${encodeURIComponent(name)}`, signal })).body;
  } catch (error) {
    if (error instanceof KubeError && error.code === 404 && error.status.details?.name) return undefined;
    throw explained(error);
  }
}

/** All requests. Throws KubeError, or an ExitError when the server does not know them. */
export async function listRegistrations(api: Api, signal: AbortSignal): Promise<ClusterRegistrationRequest[]> {
  try {
    type List = { items: ClusterRegistrationRequest[] };
    return (await api.ask<List>({ path: `${CLUSTERS_API}/${REQUESTS}`, signal })).body.items;
  } catch (error) {
    throw explained(error);
  }
}

/** What to say when the collection itself is not there. */
export function explained(error: unknown): unknown {
  if (!(error instanceof KubeError) || error.code !== 404 || error.status.details?.name) return error;
  return new ExitError(
    EXIT.error,
    'this server does not know registration requests of clusters: the CRDs of deploy/crds are not installed',
  );
}
