import { setTimeout as sleep } from 'node:timers/promises';
import type { V1Lease } from '@kubernetes/client-node';
import type { Logger } from 'pino';
import { kubeClient } from '../kube/client.ts';
import { loadKubeConfig } from '../kube/config.ts';
import { eventRecorder } from '../kube/events.ts';
import { electLeader, type Leadership } from '../kube/leader-election.ts';
import { VERSION } from '../kube/version.ts';
import { type Raw, watchCache } from '../kube/watch-cache.ts';
import { auditLog } from './audit/audit-log.ts';
import { readAuditKey } from './audit/key.ts';
import { auditRequests } from './audit/middleware.ts';
import { auditSubject } from './audit/subject.ts';
import { authenticator } from './auth/authenticate.ts';
import { authorizer } from './auth/authorizer.ts';
import { isFrontProxy } from './auth/front-proxy.ts';
import { watchRequestHeaderConfig } from './auth/request-header-source.ts';
import { tokenReviewer } from './auth/token-review.ts';
import { certificateFiles } from './certificates/files.ts';
import { selfSignedCertificate } from './certificates/self-signed.ts';
import type { ServingCertificate } from './certificates/serving.ts';
import { isRead, jsonDocument, type StaticHandler, sendDocument, splitTarget } from './discovery/document.ts';
import { discoveryDocuments } from './discovery/documents.ts';
import { discoveryHandler } from './discovery/handler.ts';
import { openApiDocuments, openApiHandler } from './discovery/openapi-handler.ts';
import { hubApp } from './http/app.ts';
import { type HealthCheck, healthHandler } from './http/health.ts';
import { type Listener, listen } from './http/listener.ts';
import { httpMetrics } from './http/metrics.ts';
import { routes } from './http/routes.ts';
import { versionInfo } from './http/version.ts';
import { memoryReliever } from './memory.ts';
import { readAccounts } from './nodes/clouds/accounts.ts';
import { clouds } from './nodes/clouds/registry.ts';
import { instanceResolver } from './nodes/clouds/resolve.ts';
import { nodeRoom } from './nodes/node-room.ts';
import type { Options } from './options.ts';

/** On the leader's Lease: the node it runs on, for the guard OwnNode of the other replicas. */
const NODE_ANNOTATION = 'infraops.michael.io/node';
const AUTH_CHECK_MS = 5_000;

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
  const client = kubeClient(loadKubeConfig(options.kubeconfig), { userAgent: `fairlead-hub/${VERSION}` });
  const onError = (error: unknown) => log.warn({ err: plainError(error) }, 'trouble in the background');

  const accounts = options.cloudConfig ? await readAccounts(options.cloudConfig, clouds) : [];
  const resolve = instanceResolver({ accounts, environment: process.env, timeoutMilliseconds: options.cloudTimeoutMs });

  const frontProxy = watchRequestHeaderConfig({ client, signal, onProblem: (problem) => log.warn(problem) });
  const reviews = authorizer({ client });
  const authenticate = authenticator({ frontProxy, tokens: tokenReviewer({ client }) });

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
  const hubNodes = () => {
    const leader = leases.get(options.leaderElection.leaseName)?.metadata?.annotations?.[NODE_ANNOTATION];
    return [options.nodeName, leader ?? ''].filter((name) => name !== '');
  };

  let known: (group: string, resource: string, subresource: string) => boolean = () => false;
  const metrics = httpMetrics(
    (...names) => known(...names),
    (info) => info.verb === 'watch' || (info.kind === 'resource' && info.subresource === 'log'),
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
  const table = routes(nodes.resources);
  known = table.known;

  const certificate = await servingCertificate(options, { client, signal, log });

  let stopping = false;
  let authorizationProblem: string | undefined;
  const checkAuthorization = async () => {
    while (!signal.aborted) {
      authorizationProblem = await reviews.check();
      await sleep(AUTH_CHECK_MS, undefined, { signal }).catch(() => undefined);
    }
  };
  checkAuthorization().catch(onError);

  const checks: HealthCheck[] = [
    { name: 'shutdown', check: () => (stopping ? 'the process is shutting down' : undefined) },
    { name: 'front-proxy-config', check: () => (frontProxy.current() ? undefined : (frontProxy.problem() ?? 'not known')) },
    { name: 'authorization', check: () => authorizationProblem },
    ...Object.entries(nodes.checks).map(([name, check]) => ({ name, check })),
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
      discoveryHandler(discoveryDocuments(nodes.resources)),
      openApiHandler(openApiDocuments(nodes.resources, VERSION)),
      versionHandler(),
    ],
    authenticate,
    authorizer: reviews,
    metrics,
    audit: auditRequests({ write: audit.write }).middleware,
    subject: auditSubject,
    auditProblem: () => audit.problem(),
    limits: options.limits,
    requestTimeoutMs: options.requestTimeoutMs,
    closing: streams.signal,
    log: (id, error) => log.error({ id, err: plainError(error) }, 'a request failed'),
  });

  const listener = await listen(app, {
    address: options.bindAddress,
    port: options.securePort,
    certificate,
    requestHeaderCA: () => frontProxy.current()?.caBundle,
    onRequestHeaderCA: (changed, until) => frontProxy.onChange(changed, until),
    isTrusted: (socket) => isFrontProxy(socket, frontProxy.current()),
    signal,
    onError,
  });
  log.info({ address: options.bindAddress, port: listener.port, identity: options.identity, version: VERSION }, 'serving');

  const leading = new AbortController();
  const onReleased: Election['onReleased'] = (released, until) =>
    leases.onChange(() => {
      const lease = leases.get(options.leaderElection.leaseName);
      if (lease && !lease.spec?.holderIdentity) released();
    }, until);
  const election = lead(options, { client, lead: nodes.lead, signal: leading.signal, log, onError, onReleased });

  return {
    port: listener.port,
    async stop() {
      stopping = true;
      log.info('shutting down: not ready any more');
      // Operations are let go at once, so that another replica takes them up while this one still answers.
      leading.abort();
      await Promise.all([election, drain(listener, streams, options)]);
      lifetime.abort();
      await audit.close();
      client.close();
      log.info('stopped');
    },
  };
}

async function drain(listener: Listener, streams: AbortController, options: Options): Promise<void> {
  await sleep(options.shutdownDelayMs);
  streams.abort(new Error('the hub is shutting down'));
  await listener.close(options.shutdownTimeoutMs);
}

type Election = {
  client: ReturnType<typeof kubeClient>;
  lead: (leadership: Leadership) => Promise<void>;
  signal: AbortSignal;
  log: Logger;
  onError: (error: unknown) => void;
  onReleased: (released: () => void, until: AbortSignal) => void;
};

async function lead(options: Options, { client, lead: work, signal, log, onError, onReleased }: Election): Promise<void> {
  const logged = async (leadership: Leadership) => {
    log.info('leading: this replica runs the operations');
    await work(leadership);
    log.info('leading no more');
  };
  const { enabled, leaseName, ...times } = options.leaderElection;
  if (!enabled) return await logged({ signal, holds: () => !signal.aborted });
  await electLeader({
    client,
    namespace: options.nodes.namespace,
    name: leaseName,
    identity: options.identity,
    annotations: { [NODE_ANNOTATION]: options.nodeName },
    ...times,
    signal,
    lead: logged,
    onError,
    onReleased,
  });
}

async function servingCertificate(
  options: Options,
  { client, signal, log }: { client: ReturnType<typeof kubeClient>; signal: AbortSignal; log: Logger },
): Promise<ServingCertificate> {
  const onProblem = (problem: string) => log.warn(problem);
  if ('files' in options.certificate) {
    const { cert, key } = options.certificate.files;
    return await certificateFiles({ certFile: cert, keyFile: key, signal, onProblem });
  }
  const { secret, validityMs, extraNames } = options.certificate.selfMade;
  return await selfSignedCertificate({
    client,
    namespace: options.nodes.namespace,
    service: options.serviceName,
    secret,
    apiServices: options.apiServices,
    extraNames,
    validityMs,
    signal,
    onProblem,
    onChange: (notAfter) => log.info({ notAfter }, 'a serving certificate has been taken into use'),
  });
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
