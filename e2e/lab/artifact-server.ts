import { createReadStream, readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { join } from 'node:path';
import { type Authority, issueCertificate } from './certificates.ts';
import { freePort } from './ports.ts';

/** A folder of artifacts at an https URL. */
export type ArtifactServer = {
  url: string;
  /** Paths that were asked for, in order. */
  asked: readonly string[];
  stop(): Promise<void>;
};

/** Serves what SHA256SUMS of `folder` names, except what `without` matches: that does not stand in the index either. */
export async function serveArtifacts(given: {
  folder: string;
  without: RegExp;
  address: string;
  authority: Authority;
}): Promise<ArtifactServer> {
  const { folder, without, address, authority } = given;
  const lines = readFileSync(join(folder, 'SHA256SUMS'), 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !without.test(line));
  const paths = new Set(lines.map((line) => line.slice(66)));
  const asked: string[] = [];
  const { certificate, key } = issueCertificate(authority, { commonName: address, altNames: [address], usages: ['serverAuth'] });
  const server = createServer({ cert: certificate, key }, (request, response) => {
    const path = decodeURIComponent((request.url ?? '').slice(1));
    asked.push(path);
    if (path === 'SHA256SUMS') response.end(`${lines.join('\n')}\n`);
    else if (paths.has(path)) createReadStream(join(folder, path)).pipe(response);
    else response.writeHead(404).end();
  });
  const port = await freePort(address);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, address, resolve);
  });
  return {
    url: `https://${address}:${port}/`,
    asked,
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
