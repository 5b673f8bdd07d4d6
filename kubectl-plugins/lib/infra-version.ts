import { stringify } from 'yaml';
import { API } from './api.ts';
import type { Command } from './command.ts';
import { errorText } from './errors.ts';
import { EXIT, type ExitCode, UsageError } from './exit.ts';
import { version } from './version.ts';

type Versions = {
  client: { version: string; node: string; platform: string };
  server?: { gitVersion: string };
  hub?: { api: string; resources: string[] };
};

/** `kubectl infra version`. */
export const infraVersion: Command = {
  name: 'kubectl infra version',
  usage: '',
  summary: 'Versions of plugin, Kubernetes API server and hub API',
  description: `kubectl infra version - versions on both sides.

Through kube-apiserver only /apis/infraops.michael.io is the hub's, so the hub shows the version of its API and the resources it serves, not its
own build.`,
  examples: ['kubectl infra version', 'kubectl infra version --client'],
  flags: [
    { name: 'client', kind: 'switch', help: 'Ask no server', default: 'false' },
    { name: 'output', short: 'o', kind: 'text', placeholder: 'FORM', help: 'json or yaml', choices: ['json', 'yaml'] },
  ],
  run: async (session) => {
    const output = session.flags.text('output');
    if (output && !['json', 'yaml'].includes(output)) throw new UsageError(`-o ${output}: allowed formats are json and yaml`);
    const versions: Versions = { client: { version, node: process.version, platform: `${process.platform}/${process.arch}` } };
    let code: ExitCode = EXIT.done;
    const complain = (what: string, error: unknown) => {
      session.signal.throwIfAborted();
      session.stdio.err(`error: ${what}: ${errorText(error)}\n`);
      code = EXIT.error;
    };
    if (!session.flags.on('client')) {
      const get = async <T>(path: string) => (await session.api().ask<T>({ path, signal: session.signal })).body;
      try {
        versions.server = { gitVersion: (await get<{ gitVersion: string }>('/version')).gitVersion };
      } catch (error) {
        complain('Kubernetes API server', error);
      }
      try {
        const found = await get<{ groupVersion: string; resources: { name: string }[] }>(API);
        versions.hub = { api: found.groupVersion, resources: found.resources.map((resource) => resource.name) };
      } catch (error) {
        complain('hub', error);
      }
    }
    const { client, server, hub } = versions;
    session.stdio.out(
      output === 'json'
        ? `${JSON.stringify(versions, undefined, 2)}\n`
        : output === 'yaml'
          ? stringify(versions)
          : [
              `Client:      ${client.version} (Node.js ${client.node}, ${client.platform})\n`,
              server ? `Kubernetes:  ${server.gitVersion}\n` : '',
              hub ? `Hub API:     ${hub.api} (${hub.resources.join(', ')})\n` : '',
            ].join(''),
    );
    return code;
  },
};
