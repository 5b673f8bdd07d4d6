import { createHash, createPrivateKey } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { createSecureContext } from 'node:tls';
import { parseBundle } from './bundle.ts';
import { pairHolder } from './pair-holder.ts';
import type { KeptCertificate, ServingPair } from './serving.ts';

export type CertificateFilesOptions = {
  certFile: string;
  keyFile: string;
  signal: AbortSignal;
  /** Milliseconds between looks at the files. Default 2,000. */
  intervalMs?: number;
  /** Each new problem once, as text for the log. The pair in use stays. */
  onProblem?: (problem: string) => void;
};

/** Throws an Error that says what is wrong with the pair. */
export function checkPair(pair: ServingPair): void {
  const [leaf] = parseBundle(pair.cert);
  if (!leaf) throw new Error('there is no certificate in it');
  if (!leaf.checkPrivateKey(createPrivateKey(pair.key))) throw new Error('certificate and private key do not belong together');
  createSecureContext(pair);
}

/**
 * A serving certificate from files, looked at every few seconds by content: that sees files written in place as well as Kubernetes' swap of the
 * `..data` link, and works on every file system. A swap between the reading of the two files shows as a pair that does not fit, and is read again.
 * Rejects with an Error that names the files when the first pair is broken.
 */
export async function certificateFiles(options: CertificateFilesOptions): Promise<KeptCertificate> {
  const { certFile, keyFile, signal, intervalMs = 2_000 } = options;
  const digest = (pair: ServingPair) => createHash('sha256').update(`${pair.cert}\0${pair.key}`).digest('hex');
  const where = `serving certificate ${certFile}, key ${keyFile}`;

  async function read(): Promise<ServingPair> {
    try {
      const [cert, key] = await Promise.all([readFile(certFile, 'utf8'), readFile(keyFile, 'utf8')]);
      return { cert, key };
    } catch (error) {
      throw new Error(`${where}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
    }
  }

  function check(pair: ServingPair): void {
    try {
      checkPair(pair);
    } catch (error) {
      throw new Error(`${where}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
    }
  }

  const first = await read();
  check(first);
  const holder = pairHolder(first);
  let reported: string | undefined;

  async function run(): Promise<void> {
    let inUse = digest(first);
    while (!signal.aborted) {
      await sleep(intervalMs, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      try {
        const pair = await read();
        const now = digest(pair);
        if (now !== inUse) {
          check(pair);
          inUse = now;
          holder.replace(pair);
        }
        reported = undefined;
      } catch (error) {
        const problem = error instanceof Error ? error.message : String(error);
        if (problem !== reported) options.onProblem?.(`${problem}; the certificate read before stays in use`);
        reported = problem;
      }
    }
  }

  run().catch((error: unknown) => options.onProblem?.(`${where}: ${String(error)}`));
  return { ...holder, problem: () => reported };
}
