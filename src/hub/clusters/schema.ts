import { type Static, Type } from 'typebox';
import { objectSchema } from '../http/meta.ts';

export const GROUP = 'infraops.michael.io';
export const VERSION = 'v1';
export const API_VERSION = `${GROUP}/${VERSION}`;

const text = (description: string) => Type.Optional(Type.String({ description }));
const flag = (description: string) => Type.Optional(Type.Boolean({ description }));
const time = (description: string) => Type.Optional(Type.String({ format: 'date-time', description }));

/** In the order of a cluster's life. */
export const CLUSTER_PHASES = ['Pending', 'Ready', 'NotReady', 'Unknown', 'Denied'] as const;
export type ClusterPhase = (typeof CLUSTER_PHASES)[number];

export const InfraCluster = objectSchema(
  'io.michael.infraops.v1.InfraCluster',
  'A child cluster as it is reached from here: a view over the ManagedCluster of clusters.clusternet.io with the same name.',
  {
    spec: Type.Object(
      {
        clusterID: Type.String({ description: 'Id of the cluster, the name of its socket.' }),
        type: text('Kind of cluster, as its agent says.'),
        namespace: Type.String({ description: 'Namespace of the ManagedCluster.' }),
        managedClusterName: Type.String({ description: 'Name of the ManagedCluster.' }),
      },
      { description: 'What the cluster is.' },
    ),
    status: Type.Object(
      {
        phase: Type.Unsafe<ClusterPhase>(
          Type.String({
            enum: [...CLUSTER_PHASES],
            description: 'Pending: its agent has never posted. Unknown: nothing is heard of it. Denied: it is kept out.',
          }),
        ),
        message: text('Why it is not ready.'),
        version: text('Version of Kubernetes.'),
        distribution: text('Distribution of Kubernetes, when the version tells.'),
        platform: text('Operating system and architecture of its API server.'),
        agentVersion: text('Version of its agent.'),
        apiserverURL: text('Where the agent reaches its API server.'),
        connected: Type.Boolean({ description: 'Whether it has a tunnel to any replica of the hub.' }),
        since: time('Since when it is connected, or when its last tunnel ended.'),
        lastSeen: time('When the agent was last heard.'),
        roundTripMilliseconds: Type.Optional(Type.Number({ description: 'Round trip through the tunnel, in milliseconds.' })),
        protocol: text('Protocol of the tunnel: fairlead or clusternet.'),
        tunnels: Type.Optional(Type.Integer({ description: 'Tunnels to all replicas.' })),
        tlsVerified: flag('False when the certificate of its API server is not verified.'),
        directURL: text('Address of the hub itself, past kube-apiserver.'),
        directCA: text("CA of the hub's certificate: PEM in base64."),
      },
      { description: 'What is known of it.' },
    ),
  },
);
export type InfraCluster = Static<typeof InfraCluster>;
