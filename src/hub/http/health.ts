import type { IncomingMessage, ServerResponse } from 'node:http';

/** A named probe: undefined means well, text is what is wrong. The text goes to the log, never to the client. */
export type HealthCheck = { name: string; check: () => string | undefined };

/** The probes behind each endpoint. `ping` is added to all of them. */
export type HealthChecks = { healthz: readonly HealthCheck[]; livez: readonly HealthCheck[]; readyz: readonly HealthCheck[] };

/** True when the request was answered; false when its path is no health path. */
export type HealthHandler = (request: IncomingMessage, response: ServerResponse) => boolean;

const PING: HealthCheck = { name: 'ping', check: () => undefined };
/** Names in `?exclude=` beyond this many are not looked at. */
const MAX_EXCLUDED = 32;

/**
 * Answers `/healthz`, `/livez`, `/readyz` (with `?verbose` and `?exclude=<check>`) and `/<endpoint>/<check>` as plain text, 200 or 500, in
 * the words of k8s.io/apiserver. `log` gets the reasons of failures, one line for a request.
 */
export function healthHandler(checks: HealthChecks, log: (text: string) => void): HealthHandler {
  const endpoints = new Map(
    Object.entries(checks).map(([endpoint, given]): [string, ReadonlyMap<string, HealthCheck>] => [
      endpoint,
      new Map([PING, ...given].map((check) => [check.name, check])),
    ]),
  );
  return (request, response) => {
    const { pathname, searchParams } = parseTarget(request.url ?? '');
    const [endpoint = '', name, ...rest] = pathname.slice(1).replace(/\/$/, '').split('/', 4);
    const registered = endpoints.get(endpoint);
    if (!registered || rest.length > 0) return false;
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('Allow', 'GET, HEAD');
      send(request, response, 405, 'method not allowed\n');
      return true;
    }
    if (name === undefined) {
      const { code, text } = all(endpoint, registered, searchParams, log);
      send(request, response, code, text);
      return true;
    }
    const one = registered.get(name);
    if (!one) return false;
    const problem = run(one);
    if (problem !== undefined) log(`${endpoint} check failed: ${name}: ${problem}`);
    if (problem === undefined) send(request, response, 200, 'ok');
    else send(request, response, 500, 'internal server error: reason withheld\n');
    return true;
  };
}

function parseTarget(target: string): { pathname: string; searchParams: URLSearchParams } {
  const mark = target.indexOf('?');
  if (mark < 0) return { pathname: target, searchParams: new URLSearchParams() };
  return { pathname: target.slice(0, mark), searchParams: new URLSearchParams(target.slice(mark + 1)) };
}

/** A check that throws has failed. */
function run({ check }: HealthCheck): string | undefined {
  try {
    return check();
  } catch (error) {
    return `the check itself failed: ${error instanceof Error ? error.message : String(error)}`;
  }
}

function all(
  endpoint: string,
  checks: ReadonlyMap<string, HealthCheck>,
  query: URLSearchParams,
  log: (text: string) => void,
): { code: number; text: string } {
  const excluded = new Set(query.getAll('exclude').slice(0, MAX_EXCLUDED));
  const lines: string[] = [];
  const failed: string[] = [];
  for (const check of checks.values()) {
    if (excluded.delete(check.name)) {
      lines.push(`[+]${check.name} excluded: ok`);
      continue;
    }
    const problem = run(check);
    lines.push(problem === undefined ? `[+]${check.name} ok` : `[-]${check.name} failed: reason withheld`);
    if (problem !== undefined) failed.push(`${check.name}: ${problem}`);
  }
  if (excluded.size > 0) {
    const names = [...excluded].map((name) => JSON.stringify(name.slice(0, 64))).join(',');
    lines.push(`warn: some health checks cannot be excluded: no matches for ${names}`);
  }
  if (failed.length > 0) {
    log(`${endpoint} check failed: ${failed.join('; ')}`);
    return { code: 500, text: `${[...lines, `${endpoint} check failed`].join('\n')}\n` };
  }
  return { code: 200, text: query.has('verbose') ? `${[...lines, `${endpoint} check passed`].join('\n')}\n` : 'ok' };
}

function send(request: IncomingMessage, response: ServerResponse, code: number, text: string): void {
  response.writeHead(code, {
    'Content-Type': 'text/plain; charset=utf-8',
    'X-Content-Type-Options': 'nosniff',
    'Cache-Control': 'no-cache, private',
    'Content-Length': Buffer.byteLength(text),
  });
  response.end(request.method === 'HEAD' ? undefined : text);
}
