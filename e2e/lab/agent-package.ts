import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Machine } from './machine.ts';

const script = (name: string) => fileURLToPath(new URL(`../../hack/${name}`, import.meta.url));

function node(...args: string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    const said: Buffer[] = [];
    child.stderr.on('data', (chunk: Buffer) => said.push(chunk));
    child.once('error', reject);
    child.once('close', (code) => {
      if (code === 0) resolve();
      else reject(new Error(`${args.join(' ')} ended with ${code}: ${Buffer.concat(said).toString('utf8').slice(-2_000)}`));
    });
  });
}

/** Builds the .deb of the agent as a release has it, below the folder `out`, and returns its path. */
export async function agentPackage(out: string): Promise<string> {
  await node(script('build.ts'), '--only', 'agent', '--sea', '--out', out);
  await node(script('package.ts'), '--out', out, '--formats', 'deb');
  const [name = ''] = readdirSync(join(out, 'packages'));
  return join(out, 'packages', name);
}

/** Installs the package on the machine, runs there what `kubectl infra join-command --machine` printed, with `flags` added to the agent's. */
export async function joinByPackage(machine: Machine, deb: string, joinCommand: string, flags: readonly string[] = []): Promise<void> {
  await machine.copyIn(deb, '/srv/fairlead-agent.deb');
  await machine.run(['dpkg', '-i', '/srv/fairlead-agent.deb'], { timeout: 120_000 });
  await machine.run(['rm', '/srv/fairlead-agent.deb']);
  const input = joinCommand.replace(/^FAIRLEAD_AGENT_FLAGS=.*$/m, (line) => [line, ...flags].join(' '));
  await machine.run(['sh', '-e'], { input, timeout: 60_000 });
}
