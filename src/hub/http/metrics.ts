import type { IncomingMessage, ServerResponse } from 'node:http';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { RequestInfo } from './resource.ts';

/** The metrics of the HTTP listener. Others register theirs with `registry`. */
export type HttpMetrics = {
  registry: Registry;
  /** Counts a request that begins; call the result once with the answer's code (0: the client went away), and with what it asked for. */
  begin(): (info: RequestInfo | undefined, code: number) => void;
  /** The text of `/metrics`. */
  handler(request: IncomingMessage, response: ServerResponse): Promise<void>;
};

/** Whether the server has this resource and subresource ('' for none). */
export type KnownResource = (group: string, resource: string, subresource: string) => boolean;

const VERBS = new Set([
  'get',
  'list',
  'watch',
  'create',
  'update',
  'patch',
  'delete',
  'deletecollection',
  'head',
  'post',
  'put',
  'options',
]);

type Labels = { verb: string; group: string; resource: string; subresource: string };

/**
 * Labels of a request. What the client can choose freely (a resource or method that does not exist) becomes `other`: it must not make new
 * series. `known` says what the server has.
 */
export function requestLabels(info: RequestInfo | undefined, known: KnownResource): Labels {
  if (!info) return { verb: 'other', group: '', resource: '', subresource: '' };
  const verb = VERBS.has(info.verb) ? info.verb : 'other';
  if (info.kind === 'nonResource') return { verb, group: '', resource: '', subresource: '' };
  const { group, resource, subresource } = info;
  if (known(group, resource, subresource)) return { verb, group, resource, subresource };
  return { verb, group: 'other', resource: 'other', subresource: '' };
}

/** A registry with Node's process metrics and those of the listener. Streams that have no deadline (watch, log) are not in the durations. */
export function httpMetrics(known: KnownResource, longRunning: (info: RequestInfo) => boolean = () => false): HttpMetrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const labelNames = ['verb', 'group', 'resource', 'subresource'] as const;
  const requests = new Counter({
    name: 'fairlead_hub_requests_total',
    help: 'Requests that were answered, by what they asked for and the HTTP status; code 0: the client went away before.',
    labelNames: [...labelNames, 'code'] as const,
    registers: [registry],
  });
  const durations = new Histogram({
    name: 'fairlead_hub_request_duration_seconds',
    help: 'How long requests took, without watches and followed logs.',
    labelNames,
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
    registers: [registry],
  });
  const inFlight = new Gauge({
    name: 'fairlead_hub_requests_in_flight',
    help: 'Requests that are being answered now, watches and streams included.',
    registers: [registry],
  });
  return {
    registry,
    begin() {
      const started = performance.now();
      let open = true;
      inFlight.inc();
      return (info, code) => {
        if (!open) return;
        open = false;
        inFlight.dec();
        const labels = requestLabels(info, known);
        requests.inc({ ...labels, code: String(code) });
        if (!info || !longRunning(info)) durations.observe(labels, (performance.now() - started) / 1_000);
      };
    },
    async handler(request, response) {
      const text = await registry.metrics();
      response.writeHead(200, { 'Content-Type': registry.contentType, 'Content-Length': Buffer.byteLength(text) });
      response.end(request.method === 'HEAD' ? undefined : text);
    },
  };
}
