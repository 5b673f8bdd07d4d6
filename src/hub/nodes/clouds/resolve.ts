import type { Cloud } from './cloud.ts';
import type { Account, CloudDefinition, ConfiguredAccount, Environment } from './definition.ts';
import type { InstanceRef, NodeIdentity } from './provider-id.ts';
import { ProviderIDError, quote } from './provider-id.ts';
import { cloudOf } from './registry.ts';

/** A cloud call's time limit without configuration. */
const DEFAULT_TIMEOUT_MILLISECONDS = 10_000;

/** An instance and the cloud to ask about it. */
export type ResolvedInstance = { ref: InstanceRef; cloud: Cloud };

/** Which instance a node is, and with which account its cloud is called. Throws ProviderIDError; asks nobody. */
export type ResolveInstance = (identity: NodeIdentity) => ResolvedInstance;

/**
 * Makes the resolver. `accounts` in the order of the file: the first that matches the node is taken. A cloud without an entry has one account, the
 * environment; a cloud with entries of which none matches is refused. One Cloud is kept per account; it keeps one SDK client per region.
 */
export function instanceResolver(options: {
  accounts: readonly ConfiguredAccount[];
  environment: Environment;
  /** Time limit of each call for accounts that set none; default 10 s. */
  timeoutMilliseconds?: number;
}): ResolveInstance {
  const timeoutMilliseconds = options.timeoutMilliseconds ?? DEFAULT_TIMEOUT_MILLISECONDS;
  const accounts = options.accounts.map((account): Account => ({ timeoutMilliseconds, ...account }));
  const connected = new Map<Account, Cloud>();
  const defaults = new Map<string, Account>();

  const accountsOf = (definition: CloudDefinition): readonly Account[] => {
    const configured = accounts.filter((a) => a.cloud === definition.name);
    if (configured.length > 0) return configured;
    let fallback = defaults.get(definition.name);
    if (!fallback) {
      fallback = { name: undefined, cloud: definition.name, timeoutMilliseconds, credentials: {}, match: {} };
      defaults.set(definition.name, fallback);
    }
    return [fallback];
  };

  return (identity) => {
    const definition = cloudOf(identity.providerID);
    let refusal: unknown;
    for (const account of accountsOf(definition)) {
      if (
        !Object.entries(account.match.nodeSelector ?? {}).every(([k, v]) => Object.hasOwn(identity.labels, k) && identity.labels[k] === v)
      )
        continue;
      let ref: InstanceRef;
      try {
        ref = definition.parse(identity, account, options.environment);
      } catch (error) {
        if (!(error instanceof ProviderIDError)) throw error;
        // Another account may say the region that this one lacks.
        refusal ??= error;
        continue;
      }
      if ((account.region ?? ref.region) !== ref.region || !(account.match.regions ?? [ref.region]).includes(ref.region)) continue;
      let cloud = connected.get(account);
      if (!cloud) {
        cloud = definition.connect(account, options.environment);
        connected.set(account, cloud);
      }
      return { ref, cloud };
    }
    throw (
      refusal ??
      new ProviderIDError(
        `ProviderID ${quote(identity.providerID)}: no account of ${definition.name} in the cloud configuration matches node ${quote(identity.name)}`,
      )
    );
  };
}
