import { chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bootstrapToken } from '../lab/agent.ts';
import { type Hub, startHub } from '../lab/hub.ts';
import { type Lab, startLab } from '../lab/lab.ts';
import { type LabProcess, readyOrEnded, startProcess } from '../lab/process.ts';
import { waitFor } from '../lab/wait.ts';

export const CLUSTERS = '/apis/infraops.michael.io/v1/clusters';
const agentEntry = fileURLToPath(new URL('../../src/agent/main.ts', import.meta.url));
/** nobody: whatever a request asks of it, this agent cannot change the machine that the tests run on. */
const NOBODY = 65_534;

/** A parent with two replicas of the hub, and the agent of a machine without a cluster. */
export type LifecycleEnv = {
  lab: Lab;
  hub: Hub;
  agent: LabProcess;
  socket: string;
  /** Where the agent keeps what it knows. */
  state: string;
  stop(): Promise<void>;
};

export async function lifecycleEnv(clusterName: string): Promise<LifecycleEnv> {
  const lab = await startLab({ moto: false, kwok: false, nodes: [] });
  const folder = mkdtempSync(join(tmpdir(), 'machine-agent-'));
  let agent: LabProcess | undefined;
  const stop = async () => {
    await agent?.stop('SIGTERM', 30_000);
    rmSync(folder, { recursive: true, force: true });
    await lab.stop();
  };
  try {
    const hub = await startHub(lab, { replicas: 2, flags: ['--shutdown-delay=0s'] });
    const state = join(folder, 'state');
    mkdirSync(state, { mode: 0o700 });
    const [ca, token] = [join(folder, 'parent-ca.crt'), join(folder, 'bootstrap-token')];
    writeFileSync(ca, lab.ca, { mode: 0o600 });
    writeFileSync(token, await bootstrapToken(lab), { mode: 0o600 });
    for (const path of [folder, state, ca, token]) chownSync(path, NOBODY, NOBODY);
    const socket = join(folder, 'agent.sock');
    const unprivileged = [
      '--reuid',
      String(NOBODY),
      '--regid',
      String(NOBODY),
      '--clear-groups',
      '--no-new-privs',
      '--pdeathsig',
      'KILL',
      '--',
    ];
    agent = await startProcess({
      name: `agent-${clusterName}`,
      command: 'setpriv',
      args: [
        ...unprivileged,
        ...[process.execPath, agentEntry, `--parent-url=${lab.apiServerURL}`, `--parent-ca-file=${ca}`, `--bootstrap-token-file=${token}`],
        ...['--bare', `--state-dir=${state}`, `--socket=${socket}`, `--cluster-name=${clusterName}`, `--identity=${clusterName}`],
        ...[`--artifacts=${folder}`, '--status-interval=1s'],
      ],
      env: { HOME: folder },
      log: join(lab.dir, 'agent.log'),
    });
    await readyOrEnded(agent, (signal) => {
      const answered = async () => {
        const { status, text } = await lab.api.request('GET', `${CLUSTERS}/${clusterName}/lifecycle`, { signal });
        if (status !== 200) throw new Error(`${status} ${text.slice(0, 300)}`);
        return true;
      };
      return waitFor(answered, { what: 'the agent to answer', timeout: 90_000, signal });
    });
    return { lab, hub, agent, socket, state, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
