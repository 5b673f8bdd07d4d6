import type { AwsCredentialIdentity, AwsCredentialIdentityProvider } from '@smithy/types';
import { awsRequestHandler } from './aws-handler.ts';
import type { Account } from './definition.ts';
import { configuredKey } from './secrets.ts';

/** How long a key from files or variables is used before it is read again. */
const REREAD_MILLISECONDS = 6 * 60_000;

/**
 * The credential provider of an account; undefined leaves it to the SDK's default chain (environment, profile, web identity of IRSA, Pod Identity,
 * instance metadata). A role with a token file is assumed by web identity, one without by the default chain's own credentials.
 */
export function awsCredentials(
  account: Account,
  sdk: typeof import('./aws-sdk.ts'),
  region: string,
): AwsCredentialIdentityProvider | undefined {
  const { files, env, role } = account.credentials;
  if (files ?? env) {
    return async (): Promise<AwsCredentialIdentity> => {
      const key = await configuredKey(account, process.env);
      if (!key) throw new Error('no key configured');
      return {
        accessKeyId: key.id,
        secretAccessKey: key.secret,
        ...(key.token !== undefined && { sessionToken: key.token }),
        expiration: new Date(Date.now() + REREAD_MILLISECONDS),
      };
    };
  }
  if (!role) return undefined;
  const roleSessionName = role.sessionName ?? 'fairlead-hub';
  const requestHandler = awsRequestHandler(account);
  if (role.webIdentityTokenFile !== undefined) {
    return sdk.fromTokenFile({
      webIdentityTokenFile: role.webIdentityTokenFile,
      roleArn: role.arn,
      roleSessionName,
      clientConfig: { region, requestHandler, ...(role.stsEndpoint !== undefined && { endpoint: role.stsEndpoint }) },
    });
  }
  return async () => {
    const assume = sdk.getDefaultRoleAssumer({ region, requestHandler });
    const source = await sdk.defaultProvider()();
    return assume(source, {
      RoleArn: role.arn,
      RoleSessionName: roleSessionName,
      ...(role.externalID !== undefined && { ExternalId: role.externalID }),
    });
  };
}
