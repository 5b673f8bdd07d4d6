import { notAcceptable } from '../../kube/status.ts';
import { JSON_TYPE, tryNegotiate } from '../http/negotiate.ts';
import type { ApiResource } from '../http/resource.ts';
import { isRead, jsonDocument, type StaticDocument, type StaticHandler, sendDocument, splitTarget } from './document.ts';
import { groupVersions } from './documents.ts';
import { openApiV2 } from './openapi-v2.ts';
import { openApiV3 } from './openapi-v3.ts';
import { describe } from './operations.ts';

const YEAR_MS = 365 * 24 * 3_600_000;

/** The OpenAPI documents by path: `/openapi/v2`, `/openapi/v3` and one `/openapi/v3/apis/<group>/<version>` each. */
export type OpenApiDocuments = ReadonlyMap<string, StaticDocument>;

/** Makes all OpenAPI documents once. `version` is the server's. Throws when a schema cannot be written down. */
export function openApiDocuments(resources: readonly ApiResource[], version: string): OpenApiDocuments {
  const descriptions = groupVersions(resources).map(describe);
  const documents = new Map<string, StaticDocument>();
  const index: Record<string, { serverRelativeURL: string }> = {};
  for (const description of descriptions) {
    const key = `apis/${description.group}/${description.version}`;
    const document = jsonDocument(openApiV3(description, version));
    documents.set(`/openapi/v3/${key}`, document);
    index[key] = { serverRelativeURL: `/openapi/v3/${key}?hash=${document.hash}` };
  }
  documents.set('/openapi/v3', jsonDocument({ paths: index }));
  documents.set('/openapi/v2', jsonDocument(openApiV2(descriptions, version)));
  return documents;
}

/**
 * Answers the OpenAPI paths from memory; every other path goes to `next`, and so do errors (405, 406). JSON only: who takes nothing but
 * protobuf gets 406, and kubectl then asks kube-apiserver's own merged document. A `?hash=` that is not current gets the current document
 * without permission to cache, never a redirect, which the aggregator would turn into 502.
 */
export function openApiHandler(documents: OpenApiDocuments): StaticHandler {
  return (request, response, next) => {
    const { path, query } = splitTarget(request);
    const document = documents.get(path);
    if (!document) return next();
    if (!isRead(request, response, next)) return;
    if (!tryNegotiate(request.headers.accept, [JSON_TYPE])) return next(notAcceptable([JSON_TYPE]));
    sendDocument(request, response, document, caching(query, document));
  };
}

function caching(query: string, document: StaticDocument): Record<string, string> {
  const hash = query === '' ? '' : (new URLSearchParams(query).get('hash') ?? '');
  if (hash !== '' && hash === document.hash) {
    return { 'Cache-Control': 'public, immutable', Expires: new Date(Date.now() + YEAR_MS).toUTCString() };
  }
  return { 'Cache-Control': 'no-cache' };
}
