import type { Cloud } from './cloud.ts';
import type { InstanceRef, NodeIdentity } from './provider-id.ts';

/** Where an account's credentials come from; exactly one of the sections, or none for the cloud's own convention (environment, role of the machine or pod). */
export type Credentials = {
  /** Paths of files that hold the key id, the secret and the session token; read anew, so they may be rotated. */
  files?: { id: string; secret: string; token?: string };
  /** Names of environment variables that hold them. */
  env?: { id: string; secret: string; token?: string };
  /** A profile of the cloud's own shared configuration files (AWS, Alibaba). */
  profile?: string;
  /** A role to assume: with a web identity token file (IRSA, TKE OIDC, RRSA), else with the environment's credentials (AWS). */
  role?: {
    arn: string;
    webIdentityTokenFile?: string;
    /** Alibaba: ARN of the OIDC provider. Tencent: its name. */
    provider?: string;
    externalID?: string;
    sessionName?: string;
    stsEndpoint?: string;
  };
  /** The role of the machine the hub runs on: its name, or '' to ask the metadata service for it (Tencent, Alibaba). */
  instanceRole?: string;
};

/** One set of credentials with its place. Without configuration each cloud has one account that is the environment, with `name` undefined. */
export type Account = {
  name: string | undefined;
  cloud: string;
  region?: string;
  /** `public`, `internal` or a URL. */
  endpoint?: string;
  /** PEM of the certificate authorities for a private endpoint. */
  ca?: string;
  timeoutMilliseconds: number;
  credentials: Credentials;
  /** Which nodes it is for; all conditions must hold, none means every node of the cloud. */
  match: { nodeSelector?: Record<string, string>; regions?: string[] };
};

/** An account as the accounts file has it: without a time limit the one of the hub counts. */
export type ConfiguredAccount = Omit<Account, 'timeoutMilliseconds'> & Partial<Pick<Account, 'timeoutMilliseconds'>>;

/** The process environment, given so that tests need not change their own. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** One cloud: all that the registry must know. A new cloud is one file with such an object and one line in registry.ts. */
export type CloudDefinition = {
  name: string;
  /** ProviderID forms it takes, for messages; the first part up to `://` selects the cloud. */
  forms: readonly string[];
  /** Schemes of its ProviderIDs, without `://`. */
  schemes: readonly string[];
  /** A ProviderID form that has no scheme. */
  schemeless?: RegExp;
  /** Sections of Credentials that it knows. */
  credentials: readonly (keyof Credentials)[];
  /** Which instance a node is. Throws ProviderIDError, saying what is wrong and how to set what is missing. Pure: asks nobody. */
  parse(identity: NodeIdentity, account: Account, environment: Environment): InstanceRef;
  /** Whether an `endpoint` setting is usable: undefined, or what is wrong with it. */
  checkEndpoint(endpoint: string): string | undefined;
  /** Makes the client; connects and loads the SDK with the first call only. */
  connect(account: Account, environment: Environment): Cloud;
};
