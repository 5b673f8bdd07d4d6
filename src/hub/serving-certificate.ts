import type { Logger } from 'pino';
import type { KubeClient } from '../kube/client.ts';
import { certificateFiles } from './certificates/files.ts';
import { selfSignedCertificate } from './certificates/self-signed.ts';
import type { KeptCertificate } from './certificates/serving.ts';
import type { Options } from './options.ts';

/** The serving certificate that the options ask for: files that are watched, or one that the replicas make and rotate. */
export async function servingCertificate(
  options: Options,
  { client, signal, log }: { client: KubeClient; signal: AbortSignal; log: Logger },
): Promise<KeptCertificate> {
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
