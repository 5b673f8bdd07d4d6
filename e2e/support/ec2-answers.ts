import { createServer, type IncomingMessage, request } from 'node:http';
import type { Lab } from '../lab/lab.ts';

/** What becomes of the answer to RebootInstances after EC2 has acted: the effect is there, but the caller cannot know it. */
export type LostAnswer = 'reset' | 'closed' | 'cut' | 'silence' | 'error 500' | 'error 503 of a proxy' | 'garbage';
export const lostAnswers: readonly LostAnswer[] = ['reset', 'closed', 'cut', 'silence', 'error 500', 'error 503 of a proxy', 'garbage'];

export type Ec2Answers = {
  /** For AWS_ENDPOINT_URL_EC2. */
  url: string;
  /** Spoils the next answer for the instance. */
  lose(instanceID: string, how: LostAnswer): void;
  stop(): Promise<void>;
};

async function readBody(incoming: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** A proxy in front of the EC2 of a lab that loses answers on their way back. Ended with the lab. */
export async function startEc2Answers(lab: Lab): Promise<Ec2Answers> {
  const upstream = new URL(lab.ec2.gate.url);
  const losses = new Map<string, LostAnswer>();

  const server = createServer((incoming, response) => {
    response.on('error', () => undefined);
    const serve = async () => {
      const body = await readBody(incoming);
      const { method, url: path, rawHeaders: headers } = incoming;
      const answer = await new Promise<IncomingMessage>((resolve, reject) => {
        const outgoing = request(
          { host: upstream.hostname, port: upstream.port, method, path, headers, agent: false, setHost: false },
          resolve,
        );
        outgoing.once('error', reject);
        outgoing.end(body);
      });
      const text = await readBody(answer);
      const form = new URLSearchParams(body.toString('utf8'));
      const instanceID = form.get('InstanceId.1') ?? '';
      const how = form.get('Action') === 'RebootInstances' && form.get('DryRun') !== 'true' ? losses.get(instanceID) : undefined;
      if (how) losses.delete(instanceID);
      switch (how) {
        case undefined:
          response.writeHead(answer.statusCode ?? 502, answer.rawHeaders).end(text);
          return;
        case 'reset':
          incoming.socket.resetAndDestroy();
          return;
        case 'closed':
          incoming.socket.destroy();
          return;
        case 'cut':
          response.writeHead(200, { 'content-type': 'text/xml', 'content-length': text.length });
          response.write(text.subarray(0, text.length / 2), () => incoming.socket.destroy());
          return;
        case 'silence':
          // The caller gives up by its own time limit; closing is its part.
          return;
        case 'error 500':
          response
            .writeHead(500, { 'content-type': 'text/xml' })
            .end(
              '<Response><Errors><Error><Code>InternalError</Code><Message>injected</Message></Error></Errors><RequestID>1</RequestID></Response>',
            );
          return;
        case 'error 503 of a proxy':
          response.writeHead(503, { 'content-type': 'text/html' }).end('<html><body>Service Unavailable</body></html>');
          return;
        case 'garbage':
          response.writeHead(200, { 'content-type': 'text/xml' }).end('<RebootInstancesResponse><return>tr');
      }
    };
    serve().catch(() => incoming.socket.destroy());
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the proxy has no TCP address');
  const stop = async () => {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeAllConnections();
    await closed;
  };
  lab.defer(stop);
  return { url: `http://127.0.0.1:${address.port}`, lose: (instanceID, how) => void losses.set(instanceID, how), stop };
}
