import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { EC2Client } from '@aws-sdk/client-ec2';
import { type Ec2Gate, startEc2Gate } from './ec2-gate.ts';
import { freePort } from './ports.ts';
import { readyOrEnded, startProcess } from './process.ts';
import { waitFor } from './wait.ts';

/** EC2 of a lab: moto behind our gate. */
export type Ec2 = {
  gate: Ec2Gate;
  region: string;
  /** For a program that calls this EC2 through the gate: endpoint, random credentials, region. */
  env: Record<string, string>;
  /** An AWS SDK client through the gate. The lab destroys it. */
  client: EC2Client;
  /** Launches `count` instances in the zone and resolves when all are running. */
  launch(zone: string, count: number): Promise<Array<{ instanceID: string; privateIP: string }>>;
  /** EC2's own word: pending, running, stopping, stopped, shutting-down, terminated. Asks moto directly, past the gate. */
  state(instanceID: string): Promise<string>;
  /** Terminates instances, past the gate: the machine under a node is gone. */
  terminate(instanceIDs: readonly string[]): Promise<void>;
  pid: number;
  stop(): Promise<void>;
};

/** An image of moto's own list: RunInstances refuses any other. */
const imageID = 'ami-12c6146b';

/** Starts moto_server from the folder `bin` and a gate in front of it. */
export async function startEc2({ bin, dir, region = 'us-east-1' }: { bin: string; dir: string; region?: string }): Promise<Ec2> {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const [moto, sdk] = await Promise.all([
    startProcess({
      name: 'moto',
      command: join(bin, 'moto_server'),
      args: ['-H', '127.0.0.1', '-p', String(port)],
      log: join(dir, 'moto.log'),
      env: { PYTHONUNBUFFERED: '1' },
    }),
    import('@aws-sdk/client-ec2'),
  ]);
  let gate: Ec2Gate | undefined;
  try {
    await readyOrEnded(moto, (signal) =>
      waitFor(async () => (await fetch(`${url}/moto-api/data.json`, { signal })).ok, { what: 'moto to answer', signal }),
    );
    gate = await startEc2Gate(url);
  } catch (error) {
    await moto.stop('SIGKILL');
    throw error;
  }
  const open = gate;
  const credentials = {
    accessKeyId: `AKIA${randomBytes(8).toString('hex').toUpperCase()}`,
    secretAccessKey: randomBytes(30).toString('base64url'),
  };
  const direct = new sdk.EC2Client({ endpoint: url, region, credentials });
  const client = new sdk.EC2Client({ endpoint: open.url, region, credentials });
  return {
    gate: open,
    region,
    client,
    env: {
      AWS_ENDPOINT_URL_EC2: open.url,
      AWS_ACCESS_KEY_ID: credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
      AWS_REGION: region,
    },
    async launch(zone, count) {
      if (count === 0) return [];
      const { Instances = [] } = await direct.send(
        new sdk.RunInstancesCommand({
          ImageId: imageID,
          InstanceType: 'm5.xlarge',
          MinCount: count,
          MaxCount: count,
          Placement: { AvailabilityZone: zone },
        }),
      );
      return Instances.map(({ InstanceId = '', PrivateIpAddress = '' }) => ({ instanceID: InstanceId, privateIP: PrivateIpAddress }));
    },
    async state(instanceID) {
      const { Reservations = [] } = await direct.send(new sdk.DescribeInstancesCommand({ InstanceIds: [instanceID] }));
      return Reservations[0]?.Instances?.[0]?.State?.Name ?? 'unknown';
    },
    async terminate(instanceIDs) {
      await direct.send(new sdk.TerminateInstancesCommand({ InstanceIds: [...instanceIDs] }));
    },
    pid: moto.pid,
    async stop() {
      client.destroy();
      direct.destroy();
      await open.stop();
      await moto.stop('SIGKILL');
    },
  };
}
