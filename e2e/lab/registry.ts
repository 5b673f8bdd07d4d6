import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { hash } from 'bcryptjs';
import { stringify } from 'yaml';
import { type Authority, issueCertificate } from './certificates.ts';
import { freePort } from './ports.ts';
import { readyOrEnded, startProcess } from './process.ts';
import { waitFor } from './wait.ts';

/** A registry of images (github.com/distribution/distribution) that wants a user and a password. */
export type Registry = {
  /** `192.0.2.1:35001`. */
  host: string;
  username: string;
  password: string;
  /** Pushes an image as `HOST/NAME:TAG`, from a docker-archive of one image; NAME is the last part of its own name. Resolves with the whole name. */
  push(archive: string): Promise<string>;
  /** Its log, with a line for each request. */
  log: string;
  stop(): Promise<void>;
};

const MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json';

/** Starts `registry` of the folder `bin` on an address of this computer, with a certificate of `authority`. `dir` must not be there yet. */
export async function startRegistry(given: { bin: string; dir: string; address: string; authority: Authority }): Promise<Registry> {
  const { bin, dir, address, authority } = given;
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const at = (name: string) => join(dir, name);
  const host = `${address}:${await freePort(address)}`;
  const [username, password] = ['puller', randomBytes(18).toString('base64url')];
  const { certificate, key } = issueCertificate(authority, { commonName: address, altNames: [address], usages: ['serverAuth'] });
  const config = {
    version: 0.1,
    log: { level: 'info' },
    storage: { filesystem: { rootdirectory: at('images') } },
    http: { addr: host, secret: randomBytes(16).toString('hex'), tls: { certificate: at('tls.crt'), key: at('tls.key') } },
    auth: { htpasswd: { realm: 'fairlead', path: at('htpasswd') } },
  };
  for (const [name, content] of Object.entries({
    'tls.crt': certificate,
    'tls.key': key,
    htpasswd: `${username}:${await hash(password, 4)}\n`,
    'config.yml': stringify(config),
  }))
    writeFileSync(at(name), content, { mode: 0o600 });
  const server = await startProcess({
    name: 'registry',
    command: join(bin, 'registry'),
    args: ['serve', at('config.yml')],
    log: at('log'),
    env: { OTEL_TRACES_EXPORTER: 'none' },
  });

  function ask(
    method: string,
    path: string,
    body?: { type: string; length: number; content: Readable | string },
  ): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const headers = body && { 'content-type': body.type, 'content-length': body.length };
      const sent = request(new URL(path, `https://${host}`), {
        method,
        agent: false,
        ca: authority.certificate,
        auth: `${username}:${password}`,
        headers: headers ?? {},
      });
      sent.once('error', reject);
      sent.once('response', (response) => {
        response.resume();
        resolve(response);
      });
      if (typeof body?.content === 'object') body.content.pipe(sent);
      else sent.end(body?.content);
    });
  }

  async function expected(code: number, answer: IncomingMessage, what: string): Promise<IncomingMessage> {
    if (answer.statusCode !== code) throw new Error(`registry: ${what}: ${answer.statusCode}`);
    return answer;
  }

  async function blob(repository: string, file: string): Promise<{ digest: string; size: number }> {
    const summing = createHash('sha256');
    for await (const piece of createReadStream(file)) summing.update(piece as Buffer);
    const [digest, size] = [`sha256:${summing.digest('hex')}`, statSync(file).size];
    const begun = await expected(202, await ask('POST', `/v2/${repository}/blobs/uploads/`), 'begin of an upload');
    const target = new URL(begun.headers.location ?? '', `https://${host}`);
    target.searchParams.set('digest', digest);
    const content = createReadStream(file);
    await expected(
      201,
      await ask('PUT', target.pathname + target.search, { type: 'application/octet-stream', length: size, content }),
      `upload of ${file}`,
    );
    return { digest, size };
  }

  async function push(archive: string): Promise<string> {
    const folder = at('push');
    mkdirSync(folder);
    try {
      execFileSync('tar', ['-xf', archive, '-C', folder]);
      const [image] = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8')) as [
        { Config: string; RepoTags: string[]; Layers: string[] },
      ];
      const [repository = '', tag = ''] = image.RepoTags[0]?.split('/').at(-1)?.split(':') ?? [];
      const config = await blob(repository, join(folder, image.Config));
      const layers: object[] = [];
      for (const layer of image.Layers) {
        layers.push({ mediaType: 'application/vnd.docker.image.rootfs.diff.tar', ...(await blob(repository, join(folder, layer))) });
      }
      const manifest = JSON.stringify({
        schemaVersion: 2,
        mediaType: MANIFEST,
        config: { mediaType: 'application/vnd.docker.container.image.v1+json', ...config },
        layers,
      });
      await expected(
        201,
        await ask('PUT', `/v2/${repository}/manifests/${tag}`, { type: MANIFEST, length: Buffer.byteLength(manifest), content: manifest }),
        `manifest of ${repository}`,
      );
      return `${host}/${repository}:${tag}`;
    } finally {
      rmSync(folder, { recursive: true });
    }
  }

  try {
    await readyOrEnded(server, (signal) =>
      waitFor(async () => (await ask('GET', '/v2/')).statusCode === 200, { what: 'the registry to answer', signal }),
    );
  } catch (error) {
    await server.stop('SIGKILL');
    throw error;
  }
  return { host, username, password, push, log: at('log'), stop: () => server.stop('SIGKILL') };
}
