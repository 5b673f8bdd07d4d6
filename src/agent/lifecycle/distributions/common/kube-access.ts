import { Agent, request } from 'node:https';
import { parseDocument } from 'yaml';
import type { MachineView } from '../../machine/machine.ts';

/** The part of a kubeconfig that is needed to reach its API server. */
export type KubeAccess = { server: URL; ca: string; cert: string; key: string };

const MAX_BODY = 8 * 1024 * 1024;
const REQUEST_MS = 10_000;

const get = (object: unknown, name: string): unknown =>
  typeof object === 'object' && object !== null ? Reflect.get(object, name) : undefined;
const first = (object: unknown, list: string, inner: string): unknown => {
  const items = get(object, list);
  return Array.isArray(items) ? get(items[0], inner) : undefined;
};
const decoded = (object: unknown, name: string): string => {
  const value = get(object, name);
  return typeof value === 'string' ? Buffer.from(value, 'base64').toString('utf8') : '';
};

/** Reads the first cluster and the first user of a kubeconfig with embedded certificates, as kubeadm and k3s write it. Throws an Error that holds nothing of it. */
export function parseKubeconfig(text: string): KubeAccess {
  const document: unknown = parseDocument(text, { logLevel: 'silent' }).toJS({ maxAliasCount: 0 });
  const cluster = first(document, 'clusters', 'cluster');
  const user = first(document, 'users', 'user');
  const server = get(cluster, 'server');
  const access = {
    ca: decoded(cluster, 'certificate-authority-data'),
    cert: decoded(user, 'client-certificate-data'),
    key: decoded(user, 'client-key-data'),
  };
  if (typeof server !== 'string' || !URL.canParse(server) || !access.ca || !access.cert || !access.key) {
    throw new Error('the kubeconfig holds no server with embedded certificates');
  }
  return { server: new URL(server), ...access };
}

// One kept connection, because the status is asked for every few seconds; made anew when the kubeconfig changes (rotated, or another cluster).
let kept: { text: string; access: KubeAccess; agent: Agent } | undefined;

function connection(text: string): { access: KubeAccess; agent: Agent } {
  if (kept?.text === text) return kept;
  const access = parseKubeconfig(text);
  kept?.agent.destroy();
  const { ca, cert, key } = access;
  kept = { text, access, agent: new Agent({ keepAlive: true, maxSockets: 2, timeout: REQUEST_MS, ca, cert, key }) };
  return kept;
}

/** An answer of the API server other than 2xx. */
export class KubeError extends Error {
  readonly status: number;

  constructor(status: number, path: string, message: string) {
    super(`GET ${path}: ${status} ${message}`);
    this.name = 'KubeError';
    this.status = status;
  }
}

/** GETs `path` from the API server that the kubeconfig at `kubeconfig` names, as its user. JSON is parsed, other text given as it is. Rejects when it is not reached, or with KubeError. */
export async function getFromKube(machine: MachineView, kubeconfig: string, path: string, signal: AbortSignal): Promise<unknown> {
  const text = await machine.read(kubeconfig);
  if (text === undefined) throw new Error(`there is no ${kubeconfig}`);
  const { access, agent } = connection(text);
  const bounded = AbortSignal.any([signal, AbortSignal.timeout(REQUEST_MS)]);
  const { status, type, body } = await new Promise<{ status: number; type: string; body: string }>((resolve, reject) => {
    const outgoing = request(
      new URL(path, access.server),
      { agent, signal: bounded, headers: { accept: 'application/json' } },
      (answer) => {
        const parts: Buffer[] = [];
        let size = 0;
        answer.on('data', (part: Buffer) => {
          size += part.length;
          if (size > MAX_BODY) answer.destroy(new Error(`GET ${path}: the answer is over ${MAX_BODY} bytes`));
          else parts.push(part);
        });
        answer.on('error', reject);
        answer.on('end', () => {
          resolve({
            status: answer.statusCode ?? 0,
            type: answer.headers['content-type'] ?? '',
            body: Buffer.concat(parts).toString('utf8'),
          });
        });
      },
    );
    outgoing.on('error', reject);
    outgoing.end();
  });
  if (status < 200 || status > 299) throw new KubeError(status, path, body.slice(0, 300));
  return type.startsWith('application/json') ? JSON.parse(body) : body;
}
