import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { AgentProcess } from '../lab/agent.ts';
import type { Lab } from '../lab/lab.ts';
import { waitFor } from '../lab/wait.ts';
import { watchObjects } from '../support/watch.ts';
import type { Callers } from './fault-tools.ts';

export type OverLossyLink = {
  /** Bytes that were read, and how many of the answers were not exactly what the child holds. */
  bytes: number;
  wrong: number;
  /** What a watch told meanwhile: the values of one object, in order. */
  seen: number[];
  /** How often a tunnel was opened meanwhile. */
  tunnelsOpened: number;
};

const FOLDER = '/api/v1/namespaces/lossy';
const OBJECT_BYTES = 700_000;

type ConfigMap = { metadata: { name: string }; data?: Record<string, string> };

/** Reads one object of a child over and over, while another changes `changes` times and is watched. The link between agent and parent is the caller's to spoil. */
export async function overLossyLink(given: {
  parent: Lab;
  child: Lab;
  agent: AgentProcess;
  callers: Callers;
  user: string;
  reads: number;
  changes: number;
}): Promise<OverLossyLink> {
  const { parent, child, agent, callers, user, reads, changes } = given;
  const configMap = (name: string, data: Record<string, string>) => ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data });
  await child.api.json('POST', '/api/v1/namespaces', { body: { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'lossy' } } });
  const text = randomBytes((OBJECT_BYTES * 3) / 4).toString('base64');
  await child.api.json('POST', `${FOLDER}/configmaps`, { body: configMap('exact', { text }) });
  const digest = (content: string) => createHash('sha256').update(content).digest('hex');
  const exact = `${FOLDER}/configmaps/exact`;
  const right = digest((await child.api.request('GET', exact)).text);
  const opened = () => readFileSync(agent.log, 'utf8').split('"tunnel open"').length;

  const before = opened();
  const seen: number[] = [];
  const stop = await watchObjects<ConfigMap>(
    parent,
    `${await agent.proxyPath()}${FOLDER}/configmaps`,
    ({ object: { metadata, data } }) => {
      if (metadata.name === 'changing') seen.push(Number(data?.['at']));
    },
    { user },
  );
  try {
    let [bytes, wrong] = [0, 0];
    const reading = async () => {
      for (let read = 0; read < reads; read++) {
        const answer = await callers.ask(exact);
        bytes += answer.text.length;
        if (answer.status !== 200 || digest(answer.text) !== right) wrong++;
      }
    };
    const changing = async () => {
      await child.api.json('POST', `${FOLDER}/configmaps`, { body: configMap('changing', { at: '0' }) });
      for (let at = 1; at < changes; at++)
        await child.api.json('PUT', `${FOLDER}/configmaps/changing`, { body: configMap('changing', { at: String(at) }) });
    };
    await Promise.all([reading(), changing()]);
    await waitFor(() => seen.at(-1) === changes - 1, { what: 'the last event of the watch', timeout: 60_000 });
    return { bytes, wrong, seen, tunnelsOpened: opened() - before };
  } finally {
    stop();
  }
}
