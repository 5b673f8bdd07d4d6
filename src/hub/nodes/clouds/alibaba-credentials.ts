import type { Account, Environment } from './definition.ts';
import type { Key } from './secrets.ts';
import { configuredKey } from './secrets.ts';

/**
 * Gives the key of an Alibaba account. Files and named variables are read here; the rest is @alicloud/credentials: its default chain (environment,
 * RRSA's OIDC variables, profile, role of the machine, credentials URI), a role by OIDC, a machine role. A provider that failed is thrown away, because
 * the SDK's default chain goes on with the last one it tried.
 */
export function alibabaCredentials(account: Account, environment: Environment): () => Promise<Key> {
  const load = () => import('@alicloud/credentials');
  type Module = Awaited<ReturnType<typeof load>>;
  let provider: { getCredentials(): Promise<{ accessKeyId: string; accessKeySecret: string; securityToken?: string }> } | undefined;
  return async () => {
    const direct = await configuredKey(account, environment);
    if (direct) return direct;
    try {
      provider ??= makeProvider(await load(), account);
      const { accessKeyId, accessKeySecret, securityToken } = await provider.getCredentials();
      if (!accessKeyId || !accessKeySecret) throw new Error('the provider gave no key');
      return { id: accessKeyId, secret: accessKeySecret, token: securityToken || undefined };
    } catch {
      provider = undefined;
      // The SDK's message can quote answers and files.
      throw new Error('set ALIBABA_CLOUD_ACCESS_KEY_ID and _SECRET, the RRSA variables, a role, or the account in the cloud configuration');
    }
  };

  function makeProvider(module: Module, { credentials, timeoutMilliseconds: timeout }: Account) {
    const { role, instanceRole, profile } = credentials;
    if (profile !== undefined) return module.ProfileCredentialsProvider.builder().withProfileName(profile).build();
    if (instanceRole !== undefined) {
      const builder = module.ECSRAMRoleCredentialsProvider.builder().withReadTimeout(timeout).withConnectTimeout(timeout);
      return (instanceRole ? builder.withRoleName(instanceRole) : builder).build();
    }
    if (role !== undefined) {
      const builder = module.OIDCRoleArnCredentialsProvider.builder()
        .withRoleArn(role.arn)
        .withRoleSessionName(role.sessionName ?? 'fairlead-hub')
        .withReadTimeout(timeout)
        .withConnectTimeout(timeout);
      // What is not configured, the SDK takes from the RRSA variables.
      if (role.provider !== undefined) builder.withOIDCProviderArn(role.provider);
      if (role.webIdentityTokenFile !== undefined) builder.withOIDCTokenFilePath(role.webIdentityTokenFile);
      if (role.stsEndpoint !== undefined) builder.withStsEndpoint(new URL(role.stsEndpoint).host);
      return builder.build();
    }
    return module.DefaultCredentialsProvider.builder().build();
  }
}
