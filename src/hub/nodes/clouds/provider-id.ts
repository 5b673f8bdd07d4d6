/** Where an instance is: parsed from `spec.providerID`, completed from node labels and configuration. */
export type InstanceRef = {
  /** Name of the cloud, see Cloud.name. */
  cloud: string;
  /** Name of the entry in the accounts file; undefined for the default credentials. */
  account: string | undefined;
  region: string;
  /** '' where the ProviderID names none. */
  zone: string;
  instanceID: string;
};

/** What of a Node decides which instance it is. */
export type NodeIdentity = { name: string; providerID: string; labels: Record<string, string> };

/** Why a ProviderID cannot be acted on; becomes a 422 with cause field `spec.providerID`. The message says what is wrong and what is supported. */
export class ProviderIDError extends Error {
  override name = 'ProviderIDError';
}

/** A ProviderID as it may stand in a message: quoted, shortened, control characters escaped. */
export function quote(providerID: string): string {
  return JSON.stringify(providerID.length > 80 ? `${providerID.slice(0, 80)}…` : providerID).replace(
    /[\u007f-\u00a0\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
