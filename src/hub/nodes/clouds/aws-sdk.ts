// What is used of the EC2 SDK, named one by one: loaded by a dynamic import of this file, a bundler can leave out the other 700 commands.

export {
  DescribeInstancesCommand,
  EC2Client,
  RebootInstancesCommand,
  StartInstancesCommand,
  StopInstancesCommand,
} from '@aws-sdk/client-ec2';
export { defaultProvider } from '@aws-sdk/credential-provider-node';
export { fromTokenFile } from '@aws-sdk/credential-provider-web-identity';
export { getDefaultRoleAssumer } from '@aws-sdk/nested-clients/sts';
