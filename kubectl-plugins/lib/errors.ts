import { KubeError } from '../../src/kube/errors.ts';

/** One sentence on an error, as kubectl words it where the server refused. */
export function errorText(error: unknown): string {
  if (error instanceof KubeError) {
    const known = error.reason && error.reason !== 'Gone' ? ` (${error.reason})` : '';
    const hint =
      error.code === 404 && !error.status.details?.name
        ? '; is the hub installed? kubectl get apiservice v1.infraops.michael.io'
        : error.code === 503
          ? '; is the hub running? kubectl get apiservice v1.infraops.michael.io'
          : '';
    return `from server${known}: ${error.message}${hint}`;
  }
  return error instanceof Error ? error.message : String(error);
}
