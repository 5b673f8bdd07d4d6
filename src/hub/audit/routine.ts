const HEALTH = /^\/(?:healthz|livez|readyz)(?:\/|$)/;
/** Groups and versions, but nothing below them: those are resources. */
const DISCOVERY = /^\/(?:api(?:\/[^/]+)?|apis(?:\/[^/]+){0,2}|openapi(?:\/.*)?|version)\/?$/;

/**
 * Whether a request is left out of the audit log: health checks, and discovery and OpenAPI that were answered well. The aggregator sends these by
 * itself every few seconds, and they change nothing. A refused one (400 and above, or no answer) is not routine.
 */
export function isRoutine(method: string, uri: string, code: number): boolean {
  if (method !== 'GET' && method !== 'HEAD') return false;
  const path = uri.split('?', 1)[0] ?? '';
  return HEALTH.test(path) || (DISCOVERY.test(path) && code > 0 && code < 400);
}
