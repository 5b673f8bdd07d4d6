import { afterAll, beforeAll } from 'vitest';
import { type Hub, type HubOptions, startHub } from '../lab/hub.ts';
import type { CommandOptions } from '../lab/kubectl.ts';
import { type Lab, type LabOptions, startLab } from '../lab/lab.ts';

/** A lab with a hub behind it, shared by all tests of a file. */
export type HubEnv = {
  readonly lab: Lab;
  readonly hub: Hub;
  /** The real kubectl as admin unless told otherwise; resolves with its stdout, rejects with its stderr when it fails. */
  kubectl(args: readonly string[], options?: CommandOptions): Promise<string>;
};

export const GROUP = 'infraops.michael.io';
export const API = `/apis/${GROUP}/v1`;

/** Starts both before the tests of the file and takes them down afterwards. */
export function hubEnv(options: { lab?: LabOptions; hub?: HubOptions } = {}): HubEnv {
  let lab: Lab | undefined;
  let hub: Hub | undefined;
  beforeAll(async () => {
    lab = await startLab(options.lab);
    hub = await startHub(lab, options.hub);
  });
  afterAll(() => lab?.stop());
  const started = <T>(part: T | undefined): T => {
    if (part === undefined) throw new Error('the lab is not up yet');
    return part;
  };
  return {
    get lab() {
      return started(lab);
    },
    get hub() {
      return started(hub);
    },
    async kubectl(args, commandOptions) {
      const { code, stdout, stderr } = await started(lab).kubectl(args, commandOptions);
      if (code !== 0) throw new Error(`kubectl ${args.join(' ')}: exit code ${code}: ${stderr}${stdout}`);
      return stdout;
    },
  };
}

/** The rows of text that kubectl prints as a table: one record for each line, by the column titles. */
export function rows(table: string): Record<string, string>[] {
  const [head = '', ...lines] = table.trimEnd().split('\n');
  const columns = [...head.matchAll(/\S+/g)].map((match) => ({ title: match[0], from: match.index }));
  return lines.map((line) =>
    Object.fromEntries(columns.map(({ title, from }, index) => [title, line.slice(from, columns[index + 1]?.from).trim()])),
  );
}
