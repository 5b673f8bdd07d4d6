import { chmodSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { join } from 'node:path';
import { build, type Plugin } from 'esbuild';

const root = join(import.meta.dirname, '..', '..');

/** The files that are bundled for operators, by their name in the output folder. */
export const PLUGINS: Readonly<Record<string, string>> = {
  'kubectl-restart': 'kubectl-plugins/kubectl-restart.ts',
  'kubectl-infra': 'kubectl-plugins/kubectl-infra.ts',
  'kubectl_complete-restart': 'kubectl-plugins/kubectl-complete.ts',
  'kubectl_complete-infra': 'kubectl-plugins/kubectl-complete.ts',
};

/** Version in package.json. */
export function productVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  if (typeof manifest !== 'object' || manifest === null || !('version' in manifest)) throw new Error('package.json has no version');
  return String(manifest.version);
}

/**
 * Node's own modules by process.getBuiltinModule. An executable has no file extension, so whether Node takes it for a CommonJS or an ES module
 * depends on the package.json of a folder that we do not know: the bundle must be both, and so has neither `import` nor `require`.
 */
const builtins: Plugin = {
  name: 'builtins',
  setup(setup) {
    const names = new Set(builtinModules.flatMap((name) => [name, `node:${name}`]));
    setup.onResolve({ filter: /.*/ }, ({ path }) => (names.has(path) ? { path, namespace: 'builtin' } : undefined));
    setup.onLoad({ filter: /.*/, namespace: 'builtin' }, ({ path }) => ({
      contents: `module.exports = process.getBuiltinModule(${JSON.stringify(path)});`,
      loader: 'js',
    }));
  },
};

/** Old Nodes must get as far as this line: it, and all that is parsed with it, is written for Node 12. */
const tooOld = (name: string) =>
  `if (typeof process.getBuiltinModule !== 'function') { process.stderr.write('error: ${name} needs Node.js 20.16 or newer, and "node" in PATH is ' + process.version + '\\n'); process.exit(1); }`;

/** Bundles the plugins into `folder` as executable files that need only Node.js 20.16 or newer. Returns their paths. */
export async function bundlePlugins(folder: string, options: { names?: readonly string[]; shebang?: boolean } = {}): Promise<string[]> {
  mkdirSync(folder, { recursive: true });
  const names = options.names ?? Object.keys(PLUGINS);
  return await Promise.all(
    names.map(async (name) => {
      const entry = PLUGINS[name];
      if (entry === undefined) throw new Error(`there is no plugin ${name}`);
      const outfile = join(folder, name);
      await build({
        entryPoints: [join(root, entry)],
        outfile,
        bundle: true,
        // Not `node`: that would choose the CommonJS form of `yaml`, which cannot be shaken and takes longer to start.
        platform: 'neutral',
        format: 'iife',
        target: 'es2019',
        minify: true,
        define: { FAIRLEAD_VERSION: JSON.stringify(productVersion()) },
        banner: { js: `${options.shebang === false ? '' : '#!/usr/bin/env node\n'}${tooOld(name)}` },
        plugins: [builtins],
        logLevel: 'warning',
      });
      chmodSync(outfile, 0o755);
      return outfile;
    }),
  );
}

/**
 * Bundles the hub into one ES module, `fairlead-hub.mjs`, for Node.js 24. The SDKs of the clouds are in it, and run only when a node of
 * their cloud is met.
 */
export const bundleHub = (folder: string): Promise<string> => bundleProcess(folder, 'src/hub/main.ts', 'fairlead-hub.mjs');

/** Bundles the agent into one ES module, `fairlead-agent.mjs`, for Node.js 24. */
export const bundleAgent = (folder: string): Promise<string> => bundleProcess(folder, 'src/agent/main.ts', 'fairlead-agent.mjs');

/** Bundles the agent into one CommonJS script, `fairlead-agent`: what a single executable application of Node.js 24 takes. */
export const bundleAgentScript = (folder: string): Promise<string> => bundleProcess(folder, 'src/agent/main.ts', 'fairlead-agent', 'cjs');

async function bundleProcess(folder: string, source: string, name: string, format: 'esm' | 'cjs' = 'esm'): Promise<string> {
  const entry = join(root, source);
  if (!existsSync(entry)) throw new Error(`${entry} is missing`);
  const outfile = join(folder, name);
  await build({
    entryPoints: [entry],
    outfile,
    bundle: true,
    platform: 'node',
    format,
    target: 'node24',
    minify: true,
    keepNames: true,
    define: { FAIRLEAD_VERSION: JSON.stringify(productVersion()) },
    // CommonJS packages inside the bundle load Node's own modules by require.
    ...(format === 'esm' && {
      banner: { js: "import { createRequire as fairleadRequire } from 'node:module'; const require = fairleadRequire(import.meta.url);" },
    }),
    logLevel: 'warning',
  });
  return outfile;
}
