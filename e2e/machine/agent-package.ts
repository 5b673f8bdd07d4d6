import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { bundleAgentScript } from '../../hack/release/bundle.ts';
import { hostPlatform, makeExecutables } from '../../hack/release/executables.ts';

/** Builds the .deb of the agent as a release has it, below the folder `out`, and returns its path. */
export async function agentPackage(out: string): Promise<string> {
  const script = await bundleAgentScript(join(out, 'scripts'));
  await makeExecutables([script], hostPlatform, join(out, hostPlatform));
  execFileSync(process.execPath, [join(import.meta.dirname, '../../hack/package.ts'), '--out', out, '--formats', 'deb'], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const [name = ''] = readdirSync(join(out, 'packages'));
  return join(out, 'packages', name);
}
