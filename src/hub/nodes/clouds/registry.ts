import { alibaba } from './alibaba.ts';
import { aws } from './aws.ts';
import type { CloudDefinition } from './definition.ts';
import { ProviderIDError, quote } from './provider-id.ts';
import { tencent } from './tencent.ts';

/** All clouds. A new one is its own file and one entry here. */
export const clouds: readonly CloudDefinition[] = [aws, tencent, alibaba];

/** Longest ProviderID that is looked at (characters). */
const MAX_PROVIDER_ID = 256;

/** The supported ProviderID forms, for people. */
export function supportedForms(): string {
  return clouds.map((c) => `${c.forms.join(', ')} (${c.name})`).join('; ');
}

/** The cloud a ProviderID belongs to. Throws ProviderIDError that lists the supported forms. */
export function cloudOf(providerID: string): CloudDefinition {
  if (providerID === '')
    throw new ProviderIDError(
      `spec.providerID is empty: no cloud has claimed this node, or its cloud controller manager is missing; supported: ${supportedForms()}`,
    );
  if (providerID.length > MAX_PROVIDER_ID)
    throw new ProviderIDError(`ProviderID ${quote(providerID)} is longer than ${MAX_PROVIDER_ID} characters`);
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//.exec(providerID)?.[1];
  const found = clouds.find((c) => (scheme === undefined ? c.schemeless?.test(providerID) : c.schemes.includes(scheme)));
  if (!found) throw new ProviderIDError(`ProviderID ${quote(providerID)} is not of a supported cloud; supported: ${supportedForms()}`);
  return found;
}
