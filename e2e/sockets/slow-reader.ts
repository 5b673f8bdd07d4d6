import type { IncomingMessage } from 'node:http';
import { Agent, get } from 'node:https';
import type { Lab } from '../lab/lab.ts';

/** Callers that asked for a list of 16 MB and read nothing of it. */
export type SlowReaders = {
  /** Bytes of the whole answer, as the child itself sends it. */
  whole: number;
  /** Reads on, and resolves with the bytes that each got. Rejects when one was cut. */
  finish(): Promise<number[]>;
  cancel(): void;
};

const LIST = '/api/v1/namespaces/slow/configmaps';
const OBJECTS = 32;

/** Makes the objects in the child and resolves when the heads of all answers have come. */
export async function slowReader(given: { parent: Lab; child: Lab; user: string; path: string; count: number }): Promise<SlowReaders> {
  const { parent, child, user, path, count } = given;
  await child.api.json('POST', '/api/v1/namespaces', { body: { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'slow' } } });
  for (let index = 0; index < OBJECTS; index++) {
    const body = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: `object-${index}` }, data: { text: 'x'.repeat(500_000) } };
    await child.api.json('POST', LIST, { body });
  }
  const whole = Buffer.byteLength((await child.api.request('GET', LIST)).text);
  const { certificate: cert, key } = parent.clientCertificate({ user });
  const agent = new Agent({ keepAlive: false, ca: parent.ca, cert, key });
  const head = () =>
    new Promise<IncomingMessage>((resolve, reject) => {
      get(new URL(path + LIST, parent.apiServerURL), { agent, headers: { accept: 'application/json' } }, (incoming) => {
        incoming.pause();
        resolve(incoming);
      }).once('error', reject);
    });
  const cancel = () => agent.destroy();
  try {
    const answers = await Promise.all(Array.from({ length: count }, head));
    const read = async (incoming: IncomingMessage) => {
      let bytes = 0;
      for await (const chunk of incoming as AsyncIterable<Buffer>) bytes += chunk.length;
      return bytes;
    };
    return { whole, finish: () => Promise.all(answers.map(read)), cancel };
  } catch (error) {
    cancel();
    throw error;
  }
}
