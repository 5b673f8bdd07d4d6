import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { tarGz } from './release/archive.ts';
import { bundleAgent, bundleAgentScript, bundleHub, bundlePlugins, productVersion } from './release/bundle.ts';
import { hostPlatform, makeExecutables, PLATFORMS } from './release/executables.ts';

const USAGE = `node hack/build.ts [flags]

Bundles the hub, the agent and the kubectl plugins into single files.

  --out FOLDER        default: dist
  --only hub,plugins  some of hub, agent, plugins; default: all
  --sea               also make plugins and agent executables that need no Node.js, in FOLDER/PLATFORM
  --platforms LIST    for --sea: all, or some of ${Object.keys(PLATFORMS).join(', ')}; default: this machine's
  --archives          also pack the plugins with the licence for krew, in FOLDER/archives
`;

const root = join(import.meta.dirname, '..');
const EXECUTABLES = ['kubectl-restart', 'kubectl-infra'];

const { values } = parseArgs({
  options: {
    out: { type: 'string', default: join(root, 'dist') },
    only: { type: 'string', default: 'hub,agent,plugins' },
    sea: { type: 'boolean', default: false },
    platforms: { type: 'string', default: hostPlatform },
    archives: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

const report = (files: readonly string[]) => {
  for (const file of files) process.stdout.write(`${relative(process.cwd(), file)}  ${Math.ceil(statSync(file).size / 1024)} KiB\n`);
};

/** `kubectl-restart_v0.1.0_linux-x64.tar.gz`, with the plugin and the licence. */
function pack(file: string, platform: string): string {
  const name = basename(file);
  const folder = join(values.out, 'archives');
  mkdirSync(folder, { recursive: true });
  const archive = join(folder, `${name.replace(/\.exe$/, '')}_v${productVersion()}_${platform}.tar.gz`);
  const licence = readFileSync(join(root, 'LICENSE'));
  writeFileSync(
    archive,
    tarGz([
      { name, content: readFileSync(file), executable: true },
      { name: 'LICENSE', content: licence },
    ]),
  );
  return archive;
}

if (values.help) {
  process.stdout.write(USAGE);
} else {
  const only = values.only.split(',');
  const [hub, agent, plugins] = await Promise.all([
    only.includes('hub') ? bundleHub(values.out).then((file) => [file]) : [],
    only.includes('agent') ? bundleAgent(values.out).then((file) => [file]) : [],
    only.includes('plugins') ? bundlePlugins(values.out) : [],
  ]);
  report([...hub, ...agent, ...plugins]);
  if (values.archives) report(plugins.filter((file) => EXECUTABLES.includes(basename(file))).map((file) => pack(file, 'node')));
  if (values.sea) {
    const scripts = join(values.out, 'scripts');
    const pluginScripts = only.includes('plugins') ? await bundlePlugins(scripts, { names: EXECUTABLES, shebang: false }) : [];
    const agentScripts = only.includes('agent') ? [await bundleAgentScript(scripts)] : [];
    for (const platform of values.platforms === 'all' ? Object.keys(PLATFORMS) : values.platforms.split(',')) {
      const made = await makeExecutables(pluginScripts, platform, join(values.out, platform));
      report(made);
      if (values.archives) report(made.map((file) => pack(file, platform)));
      // The agent is packed by hack/package.ts, and runs on Linux only.
      if (platform.startsWith('linux')) report(await makeExecutables(agentScripts, platform, join(values.out, platform)));
    }
  }
}
