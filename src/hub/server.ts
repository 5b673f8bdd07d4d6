import type { IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { V1Lease } from '@kubernetes/client-node';
import type { Logger } from 'pino';
import { kubeClient } from '../kube/client.ts';
import { loadKubeConfig } from '../kube/config.ts';
import { eventRecorder } from '../kube/events.ts';
import { memoryReliever } from '../kube/memory.ts';
import { pathNotFound, serviceUnavailable } from '../kube/status.ts';
import { VERSION } from '../kube/version.ts';
import { type Raw, watchCache } from '../kube/watch-cache.ts';
import { auditLog } from './audit/audit-log.ts';
import { readAuditKey } from './audit/key.ts';
import { auditMetrics } from './audit/metrics.ts';
import { auditRequests } from './audit/middleware.ts';
import { auditSubject } from './audit/subject.ts';
import { authenticator, directAuthenticator } from './auth/authenticate.ts';
import { authorizer } from './auth/authorizer.ts';
import { certificateUser } from './auth/client-certificate.ts';
import { isFrontProxy } from './auth/front-proxy.ts';
import { watchRequestHeaderConfig } from './auth/request-header-source.ts';
import { tokenReviewer } from './auth/token-review.ts';
import { certificateMetrics, certificateOver } from './certificates/metrics.ts';
import { type Children, childClusters } from './children.ts';
import { isRead, jsonDocument, type StaticHandler, sendDocument, splitTarget } from './discovery/document.ts';
import { discoveryDocuments } from './discovery/documents.ts';
import { discoveryHandler } from './discovery/handler.ts';
import { openApiDocuments, openApiHandler } from './discovery/openapi-handler.ts';
import { hubApp } from './http/app.ts';
import { toStatusError } from './http/errors.ts';
import { type HealthCheck, healthHandler } from './http/health.ts';
import { type Listener, listen } from './http/listener.ts';
import { httpMetrics } from './http/metrics.ts';
import { respondError } from './http/respond.ts';
import { routes } from './http/routes.ts';
import { versionInfo } from './http/version.ts';
import { watchHubNodes } from './hub-nodes.ts';
import { type Election, lead, NODE_ANNOTATION } from './leading.ts';
import { readAccounts } from './nodes/clouds/accounts.ts';
import { clouds } from './nodes/clouds/registry.ts';
import { instanceResolver } from './nodes/clouds/resolve.ts';
import { nodeRoom } from './nodes/node-room.ts';
import type { Options } from './options.ts';
import { requestLog } from './request-log.ts';
import { servingCertificate } from './serving-certificate.ts';
import { socketEntrances } from './socket-entrances.ts';
import { socketResource } from './sockets/resource.ts';
import { isSocketPath } from './sockets/socket-path.ts';

const AUTH_CHECK_MS = 5_000;
/** Shorter than the pause between two looks, so that each asks anew; with it, below the ten seconds that a right which was taken away may still have effect. */
const STANDING_MS = 1_500;

/** A hub that serves. */
export type Hub = {
  port: number;
  /** Not ready first; then requests in flight end and the Lease is released. Resolves when all of it is done. */
  stop(): Promise<void>;
};

/** Builds everything and listens. Rejects when the configuration cannot work; troubles that can pass are waited out and shown in `/readyz`. */
export async function startHub(options: Options, log: Logger): Promise<Hub> {
  const lifetime = new AbortController();
  const streams = new AbortController();
  const { signal } = lifetime;
  const config = await loadKubeConfig(options.kubeconfig);
  const client = kubeClient(config, { userAgent: `fairlead-hub/${VERSION}` });
  const onError = (error: unknown) => log.warn({ err: plainError(error) }, 'trouble in the background');

  const accounts = options.cloudConfig ? await readAccounts(options.cloudConfig, clouds) : [];
  const resolve = instanceResolver({ accounts, environment: process.env, timeoutMilliseconds: options.cloudTimeoutMs });

  const frontProxy = watchRequestHeaderConfig({ client, signal, onProblem: (problem) => log.warn(problem) });
  const reviews = authorizer({ client });
  // What is open is looked at anew, with answers of its own: those of the request path may be as old as they may be.
  const standing = authorizer({ client, ttlMs: STANDING_MS });
  const tokens = tokenReviewer({ client });
  const authenticate = authenticator({ frontProxy, tokens });

  const auditKey = options.audit.keyFile ? await readAuditKey(options.audit.keyFile) : undefined;
  const audit = auditLog({ destination: options.audit.path, onError: (text) => log.error(text), ...(auditKey && { key: auditKey }) });

  const leases = watchCache<Raw & V1Lease, V1Lease>({
    client,
    path: `/apis/coordination.k8s.io/v1/namespaces/${options.nodes.namespace}/leases`,
    fieldSelector: `metadata.name=${options.leaderElection.leaseName}`,
    transform: (lease) => lease,
    signal,
    onError,
  });
  const hubNodes = watchHubNodes({
    client,
    namespace: options.nodes.namespace,
    service: options.serviceName,
    own: options.nodeName,
    leader: () => leases.get(options.leaderElection.leaseName)?.metadata?.annotations?.[NODE_ANNOTATION],
    signal,
    onError,
  });

  let known: (group: string, resource: string, subresource: string) => boolean = () => false;
  const metrics = httpMetrics(
    (...names) => known(...names),
    (info) => info.verb === 'watch' || (info.kind === 'resource' && (info.subresource === 'log' || info.group === 'proxies.clusternet.io')),
  );
  const events = eventRecorder({ client, controller: 'fairlead-hub', instance: options.identity, signal, onError });
  const nodes = nodeRoom({
    client,
    resolve,
    settings: options.nodes,
    registry: metrics.registry,
    events,
    hubNodes,
    relieve: memoryReliever(signal),
    identity: options.identity,
    signal,
    onError,
  });
  const logError = (id: string, error: unknown) => log.error({ id, err: plainError(error) }, 'a request failed');
  const auditing = auditRequests({ write: audit.write });
  const logRequest = requestLog(log);
  const children = await childClusters({
    options,
    client,
    config,
    events,
    registry: metrics.registry,
    stillAllowed: ({ user, via }, info) => standing.allowed({ user, via }, info),
    toStatus: (error) => toStatusError(error, logError),
    upgraded: (request, code) => {
      auditSubject(request).code = code;
    },
    closing: streams.signal,
    signal,
    onError,
    onNews: (text) => log.info(text),
    ...(log.isLevelEnabled('debug') && { onTunnel: (event) => log.debug(event, 'tunnel') }),
  });
  const resources = [...nodes.resources, ...children.resources];
  const table = routes(resources);
  known = (group, resource, subresource) => table.known(group, resource, subresource) || group === 'proxies.clusternet.io';

  const certificate = await servingCertificate(options, { client, signal, log });
  certificateMetrics(metrics.registry, certificate.current);
  auditMetrics(metrics.registry, audit);

  let stopping = false;
  let reviewProblems: { authentication?: string | undefined; authorization?: string | undefined } = {};
  const checkReviews = async () => {
    while (!signal.aborted) {
      const [authentication, authorization] = await Promise.all([tokens.check(), reviews.check()]);
      reviewProblems = { authentication, authorization };
      await sleep(AUTH_CHECK_MS, undefined, { signal }).catch(() => undefined);
    }
  };
  checkReviews().catch(onError);

  const checks: HealthCheck[] = [
    { name: 'shutdown', check: () => (stopping ? 'the process is shutting down' : undefined) },
    { name: 'front-proxy-config', check: () => (frontProxy.current() ? undefined : (frontProxy.problem() ?? 'not known')) },
    { name: 'authentication', check: () => reviewProblems.authentication },
    { name: 'authorization', check: () => reviewProblems.authorization },
    { name: 'serving-certificate', check: () => certificateOver(certificate) },
    ...Object.entries({ ...nodes.checks, ...children.checks }).map(([name, check]) => ({ name, check })),
  ];
  let saidOfHealth = '';
  // Probes come every second: said once, not each time. The audit log is no check: without it reads still work, and changes are refused one by one.
  const health = healthHandler({ healthz: [], livez: [], readyz: checks }, (text) => {
    if (text !== saidOfHealth) log.info(text);
    saidOfHealth = text;
  });

  const app = hubApp({
    routes: table,
    health,
    documents: [
      discoveryHandler(discoveryDocuments([...resources, socketResource()])),
      openApiHandler(openApiDocuments(resources, VERSION)),
      versionHandler(),
    ],
    authenticate,
    authorizer: reviews,
    metrics,
    audit: auditing.middleware,
    subject: auditSubject,
    auditProblem: () => audit.problem(),
    limits: options.limits,
    requestTimeoutMs: options.requestTimeoutMs,
    closing: streams.signal,
    log: logError,
    logRequest,
  });

  const entrances = socketEntrances({
    sockets: children.sockets,
    auditing,
    authorizer: reviews,
    auditProblem: () => audit.problem(),
    logRequest,
  });
  const common = {
    address: options.bindAddress,
    certificate,
    signal,
    onError,
    isUnlimited: (request: IncomingMessage) => isSocketPath(request.url),
  };
  const listener = await listen(entrances.requests(authenticate, app), {
    ...common,
    port: options.securePort,
    requestHeaderCA: () => frontProxy.current()?.caBundle,
    onRequestHeaderCA: (changed, until) => frontProxy.onChange(changed, until),
    isTrusted: (socket) => isFrontProxy(socket, frontProxy.current()),
    upgrades: entrances.upgrades(authenticate),
  });
  const direct = await listenDirectly();

  /** The listener for those who come past kube-apiserver: sockets only, so that nothing that kube-apiserver does before us is missed elsewhere. */
  async function listenDirectly(): Promise<Listener | undefined> {
    if (options.clusters.directPort === 0) return undefined;
    const admit = directAuthenticator({ config: frontProxy, tokens });
    return await listen(
      entrances.requests(admit, (request, response) => respondError(request, response, pathNotFound())),
      {
        ...common,
        port: options.clusters.directPort,
        requestHeaderCA: () => frontProxy.current()?.clientCA?.bundle,
        onRequestHeaderCA: (changed, until) => frontProxy.onChange(changed, until),
        isTrusted: (socket) => certificateUser(socket, frontProxy.current()?.clientCA?.anchors) !== undefined,
        upgrades: entrances.upgrades(admit),
      },
    );
  }
  const listeners = [listener, ...(direct ? [direct] : [])];
  log.info({ address: options.bindAddress, port: listener.port, identity: options.identity, version: VERSION }, 'serving');

  const leading = new AbortController();
  const onReleased: Election['onReleased'] = (released, until) =>
    leases.onChange(() => {
      const lease = leases.get(options.leaderElection.leaseName);
      if (lease && !lease.spec?.holderIdentity) released();
    }, until);
  const election = lead(options, {
    client,
    lead: async (leadership) => void (await Promise.all([nodes.lead(leadership), children.lead(leadership)])),
    signal: leading.signal,
    log,
    onError,
    onReleased,
  });

  return {
    port: listener.port,
    async stop() {
      stopping = true;
      log.info('shutting down: not ready any more');
      for (const one of listeners) one.retire();
      // Operations are let go at once, so that another replica takes them up while this one still answers.
      leading.abort();
      await Promise.all([election, drain(listeners, children, streams, options)]);
      lifetime.abort();
      await audit.close();
      client.close();
      log.info('stopped');
    },
  };
}

async function drain(listeners: readonly Listener[], children: Children, streams: AbortController, options: Options): Promise<void> {
  // Agents open their tunnels elsewhere while this replica still answers.
  const served = Promise.withResolvers<void>();
  const moved = children.close(options.shutdownDelayMs + options.shutdownTimeoutMs, served.promise);
  await sleep(options.shutdownDelayMs);
  // Also the answer to a watch that comes after this.
  streams.abort(serviceUnavailable('this replica of the hub is shutting down; try again'));
  await Promise.all(listeners.map((listener) => listener.close(options.shutdownTimeoutMs)));
  served.resolve();
  await moved;
}

function versionHandler(): StaticHandler {
  const document = jsonDocument(versionInfo({ gitVersion: `v${VERSION}` }));
  return (request, response, next) => {
    if (splitTarget(request).path !== '/version') return next();
    if (isRead(request, response, next)) sendDocument(request, response, document);
  };
}

/** What of an error goes into the log: never the request it was about, which may hold credentials. */
function plainError(error: unknown): { type: string; message: string; stack?: string } {
  if (!(error instanceof Error)) return { type: typeof error, message: String(error) };
  return { type: error.name, message: error.message, ...(error.stack && { stack: error.stack }) };
}
