import { type Action, type StepContext, StepError } from '../../operations/step.ts';
import { run } from '../common/run.ts';
import { BIN, BINARY, IMAGES } from './paths.ts';

export type K3sOptions = {
  /** Where the installer script comes from without artifacts; default https://get.k3s.io. */
  installerURL?: string;
  /** Where the script gets the binary from; default: the project's releases. */
  releasesURL?: string;
};

const INSTALL_MS = 15 * 60_000;
const IMAGE_FILE = /\.(tar|tar\.gz|tar\.zst|tgz)$/;

/** Actions that put the binary, its images and the unit of `version` in place, and start nothing. With a source of artifacts nothing else is asked. */
export async function installerActions(context: StepContext, version: string, options: K3sOptions): Promise<Action[]> {
  const script = `${context.folder}/k3s-install.sh`;
  const environment = {
    INSTALL_K3S_VERSION: version,
    INSTALL_K3S_BIN_DIR: BIN,
    INSTALL_K3S_EXEC: 'server',
    INSTALL_K3S_SKIP_START: 'true',
  };
  const install = (more: Record<string, string>): Action =>
    run(['sh', script], { timeoutMs: INSTALL_MS, env: { ...environment, ...more } });
  const folder = `k3s/${version}/`;
  const found = await context.artifacts(folder);
  if (found.length === 0 && (await context.artifacts('')).length === 0) {
    const { installerURL = 'https://get.k3s.io', releasesURL } = options;
    return [
      { kind: 'claim', paths: [script] },
      await download(context, installerURL, script),
      install(releasesURL ? { GITHUB_URL: releasesURL } : {}),
    ];
  }
  for (const name of ['install.sh', 'k3s']) {
    if (!found.includes(`${folder}${name}`)) throw new StepError(`the source of artifacts has no ${folder}${name}`);
  }
  const images = found.filter((path) => IMAGE_FILE.test(path));
  return [
    { kind: 'fetch', path: script, artifact: `${folder}install.sh`, mode: 0o700 },
    { kind: 'fetch', path: BINARY, artifact: `${folder}k3s`, mode: 0o755 },
    // k3s imports whatever is there at each start. Named by version: those of the version before are what an undo goes back to.
    ...images.map(
      (artifact): Action => ({
        kind: 'fetch',
        path: `${IMAGES}/${version}-${artifact.slice(folder.length).replaceAll('/', '-')}`,
        artifact,
        mode: 0o644,
      }),
    ),
    install({ INSTALL_K3S_SKIP_DOWNLOAD: 'true' }),
  ];
}

async function download({ machine }: StepContext, url: string, to: string): Promise<Action> {
  const options = { timeoutMs: 120_000 };
  if (await machine.which('curl'))
    return run(['curl', '--fail', '--silent', '--show-error', '--location', '--proto', '=https', '--output', to, url], options);
  if (await machine.which('wget')) return run(['wget', '--quiet', '--https-only', '--output-document', to, url], options);
  throw new StepError(`there is neither curl nor wget to get ${url} with`, 'install curl, or start the agent with --artifacts');
}
