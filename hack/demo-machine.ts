import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { agentPackage, joinByPackage } from '../e2e/lab/agent-package.ts';
import { artifactsFolder } from '../e2e/lab/artifacts.ts';
import { runCommand } from '../e2e/lab/kubectl.ts';
import type { Lab } from '../e2e/lab/lab.ts';
import { type Machine, noMachines, startMachine } from '../e2e/lab/machine.ts';

const ARTIFACTS = '/opt/artifacts';
export const MACHINE_NAME = 'edge-2';

/** A Debian machine that has nothing yet. Rejects with the reason where there can be none. */
export async function bareMachine(): Promise<Machine> {
  const impossible = noMachines();
  if (impossible !== undefined) throw new Error(`no machine can run here: ${impossible}`);
  return await startMachine({ name: MACHINE_NAME, binds: [{ source: await artifactsFolder(), target: ARTIFACTS }] });
}

/** Installs the agent's package on it and lets it join, as a person would: by what `kubectl infra join-command` prints. Returns what can be typed then. */
export async function joinMachine(lab: Lab, bin: string, machine: Machine): Promise<string[]> {
  const environment = lab.commandEnv();
  const env = { ...environment, PATH: `${bin}:${environment.PATH}` };
  const deb = await agentPackage(join(lab.dir, 'package'));
  const args = ['infra', 'join-command', '--machine', `--cluster-name=${MACHINE_NAME}`, `--parent-url=${lab.apiServerAt(machine.host)}`];
  const command = await runCommand('kubectl', args, { env });
  if (command.code !== 0) throw new Error(`kubectl infra join-command ended with ${command.code}: ${command.stderr}`);
  await joinByPackage(machine, deb, command.stdout, [`--artifacts=${ARTIFACTS}`]);
  const file = join(lab.dir, 'cluster.yaml');
  writeFileSync(
    file,
    `apiVersion: v1alpha1
kind: Cluster
spec:
  version: v1.35.4
  networking: {podSubnet: 10.244.0.0/16, svcSubnet: 10.245.0.0/16}
`,
  );
  return [
    '',
    `# A machine with nothing but the agent, to be made a cluster`,
    `kubectl infra lifecycle create ${MACHINE_NAME} -f ${file} --dry-run=server`,
    `kubectl infra lifecycle create ${MACHINE_NAME} -f ${file}`,
    `kubectl infra kubeconfig ${MACHINE_NAME} --admin -o ${lab.dir}/${MACHINE_NAME}.kubeconfig`,
    `kubectl --kubeconfig ${lab.dir}/${MACHINE_NAME}.kubeconfig get pods -A`,
    `kubectl infra lifecycle upgrade ${MACHINE_NAME} --version=v1.36.3`,
    `kubectl infra audit ${MACHINE_NAME}`,
    `kubectl infra lifecycle delete ${MACHINE_NAME} --yes`,
  ];
}
