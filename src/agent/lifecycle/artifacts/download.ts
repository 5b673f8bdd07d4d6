import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import type { Duplex } from 'node:stream';
import { connect } from 'node:tls';
import { connectThroughHttp } from '../../../kube/proxy-connect.ts';
import { proxyFromEnvironment } from '../../../kube/proxy-environment.ts';
import { StepError } from '../operations/step.ts';

const MOST_REDIRECTS = 5;
/** Milliseconds without a byte. */
const SILENCE_MS = 60_000;

export type DownloadOptions = {
  /** PEM, besides the CAs of the system. */
  ca?: string;
};

/** The body of an https URL, after redirects (to https only), through the proxy of the environment. Rejects with StepError that names the URL without its credentials. */
export async function download(url: URL, options: DownloadOptions, signal: AbortSignal, redirects = 0): Promise<IncomingMessage> {
  const shown = `${url.origin}${url.pathname}`;
  if (url.protocol !== 'https:') throw new StepError(`${shown} is not fetched: only https:// is`);
  const response = await ask(url, options, signal).catch((error: Error) => {
    throw new StepError(`${shown} cannot be fetched: ${error.message}`);
  });
  const { statusCode = 0, headers } = response;
  if (statusCode === 200) return response;
  response.resume();
  if ([301, 302, 303, 307, 308].includes(statusCode) && headers.location !== undefined && redirects < MOST_REDIRECTS) {
    return download(new URL(headers.location, url), options, signal, redirects + 1);
  }
  throw new StepError(`${shown} cannot be fetched: it answers ${statusCode}`);
}

/** A small text. */
export async function downloadText(url: URL, options: DownloadOptions, signal: AbortSignal): Promise<string> {
  const pieces: Buffer[] = [];
  let size = 0;
  const body: AsyncIterable<Buffer> = await download(url, options, signal);
  for await (const piece of body) {
    pieces.push(piece);
    size += piece.length;
    if (size > 4 * 1024 * 1024) throw new StepError(`${url.origin}${url.pathname} is larger than 4 MiB`);
  }
  return Buffer.concat(pieces).toString('utf8');
}

async function ask(url: URL, { ca }: DownloadOptions, signal: AbortSignal): Promise<IncomingMessage> {
  const { hostname, port, pathname, search, username, password } = url;
  const proxy = proxyFromEnvironment(url, process.env);
  const through = proxy === undefined ? undefined : await connectThroughHttp(new URL(proxy), hostname, Number(port || 443), signal);
  const trust = ca === undefined ? {} : { ca: [...(await systemCAs()), ca] };
  const user = username === '' ? {} : { auth: `${decodeURIComponent(username)}:${decodeURIComponent(password)}` };
  return new Promise((resolve, reject) => {
    const sent = request({
      host: hostname.replace(/^\[|\]$/g, ''),
      port: port || 443,
      path: `${pathname}${search}`,
      agent: false,
      timeout: SILENCE_MS,
      signal,
      ...user,
      ...trust,
      ...(through && { createConnection: () => secured(through, hostname, trust) }),
    });
    sent.on('timeout', () => sent.destroy(new Error(`silent for ${SILENCE_MS / 1000} s`)));
    sent.on('error', reject);
    sent.on('response', resolve);
    sent.end();
  });
}

const secured = (socket: Duplex, servername: string, trust: { ca?: string[] }) => connect({ socket, servername, ...trust });

async function systemCAs(): Promise<string[]> {
  const { getCACertificates } = await import('node:tls');
  return getCACertificates('default');
}
