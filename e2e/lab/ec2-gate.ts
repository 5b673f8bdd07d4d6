import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { type Ec2Call, ec2ErrorBody, type PowerAction, parseEc2Call, powerActions, recordAnswer } from './ec2-call.ts';
import { createFaultTable, type Fault, type Injection } from './ec2-faults.ts';

/** An HTTP gate in front of moto: forwards, records power actions, injects faults. */
export type Ec2Gate = {
  /** For AWS_ENDPOINT_URL_EC2. */
  url: string;
  /** RebootInstances, StopInstances and StartInstances in the order they arrived, dry runs and failures included. */
  calls(): readonly Ec2Call[];
  /** How many times the action took effect on the instance (dry runs and refusals do not count). Without an instance: on all. */
  count(action: PowerAction, instanceID?: string): number;
  /** How many calls of any action arrived, by action. */
  arrivals(): ReadonlyMap<string, number>;
  inject(fault: Fault): Injection;
  /** Calls the listener when moto has accepted a power action, before its answer goes back; returns the function that ends this. */
  onAccepted(listener: (call: Ec2Call) => void): () => void;
  /** Forgets calls and counts and takes all faults away. */
  reset(): void;
  stop(): Promise<void>;
};

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > 4 << 20) throw new Error('body too large');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

type Answer = { status: number; headers: string[]; body: Buffer };

/** Sends the request on as it came (method, path, headers with Host, body): the signature still fits. */
function forward(incoming: IncomingMessage, body: Buffer, upstream: URL): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      {
        host: upstream.hostname,
        port: upstream.port,
        method: incoming.method,
        path: incoming.url,
        headers: incoming.rawHeaders,
        agent: false,
        setHost: false,
      },
      (answer) => {
        readBody(answer).then(
          (answerBody) => resolve({ status: answer.statusCode ?? 502, headers: answer.rawHeaders, body: answerBody }),
          reject,
        );
      },
    );
    outgoing.once('error', reject);
    outgoing.end(body);
  });
}

/** Starts the gate on a loopback port in front of moto's URL. */
export async function startEc2Gate(motoURL: string): Promise<Ec2Gate> {
  const upstream = new URL(motoURL);
  const end = new AbortController();
  const faults = createFaultTable(end.signal);
  const listeners = new Set<(call: Ec2Call) => void>();
  let calls: Ec2Call[] = [];
  const arrivals = new Map<string, number>();

  async function serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await readBody(incoming);
    const call = parseEc2Call(incoming, body);
    arrivals.set(call.action, (arrivals.get(call.action) ?? 0) + 1);
    if (powerActions.includes(call.action)) calls.push(call);
    const fault = faults.match(call);
    await fault?.waitBefore();
    if (fault?.drop === 'before' || end.signal.aborted) {
      incoming.socket.destroy();
      return;
    }
    if (fault?.respond) {
      const { status, code, message = `${code} was injected by the lab` } = fault.respond;
      const text = ec2ErrorBody(code, message, randomUUID());
      recordAnswer(call, status, text);
      response.writeHead(status, { 'content-type': 'text/xml;charset=UTF-8' }).end(text);
      return;
    }
    const answer = await forward(incoming, body, upstream);
    recordAnswer(call, answer.status, answer.body.toString('utf8'));
    if (call.accepted && powerActions.includes(call.action)) for (const listener of listeners) listener(call);
    await fault?.waitAfter();
    if (fault?.drop === 'after' || end.signal.aborted) {
      incoming.socket.destroy();
      return;
    }
    response.writeHead(answer.status, answer.headers).end(answer.body);
  }

  const server = createServer((incoming, response) => {
    // A caller that is gone is no reason not to act: the cloud would act too.
    response.on('error', () => undefined);
    serve(incoming, response).catch(() => incoming.socket.destroy());
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the EC2 gate has no TCP address');

  return {
    url: `http://127.0.0.1:${address.port}`,
    calls: () => calls,
    count: (action, instanceID) =>
      calls.filter((call) => call.accepted && call.action === action && (instanceID === undefined || call.instanceIDs.includes(instanceID)))
        .length,
    arrivals: () => arrivals,
    inject: faults.inject,
    onAccepted(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    reset() {
      calls = [];
      arrivals.clear();
      faults.clear();
    },
    async stop() {
      end.abort(new Error('the EC2 gate stops'));
      faults.clear();
      listeners.clear();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}
