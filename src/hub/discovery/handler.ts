import { notAcceptable } from '../../kube/status.ts';
import { type Conversion, JSON_TYPE, tryNegotiate } from '../http/negotiate.ts';
import { isRead, type StaticHandler, sendDocument, splitTarget } from './document.ts';
import { AGGREGATED_TYPE, type DiscoveryDocuments } from './documents.ts';

const AGGREGATED: Conversion = { kind: 'APIGroupDiscoveryList', group: 'apidiscovery.k8s.io', version: 'v2' };

/**
 * Answers `/apis`, `/apis/<group>` and `/apis/<group>/<version>` from memory; every other path goes to `next`. `/apis` gives aggregated
 * discovery (v2) when it comes before plain JSON in the client's order; v2beta1, removed in Kubernetes 1.35, counts as not offered.
 * Errors (405, 406) go to `next` as StatusError.
 */
export function discoveryHandler(documents: DiscoveryDocuments): StaticHandler {
  const { byPath, aggregated } = documents;
  return (request, response, next) => {
    const { path } = splitTarget(request);
    const document = byPath.get(path);
    if (!document) return next();
    if (!isRead(request, response, next)) return;
    const { accept } = request.headers;
    if (path !== '/apis') {
      if (tryNegotiate(accept, [JSON_TYPE])) return sendDocument(request, response, document);
      return next(notAcceptable([JSON_TYPE]));
    }
    const answer = tryNegotiate(accept, [JSON_TYPE], [AGGREGATED]);
    if (!answer) return next(notAcceptable([JSON_TYPE, AGGREGATED_TYPE]));
    sendDocument(request, response, answer.convert ? aggregated : document);
  };
}
