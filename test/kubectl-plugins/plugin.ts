import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { bundlePlugins } from '../../hack/release/bundle.ts';
import type { FakeApi } from './fake-api.ts';

export type Result = { code: number | null; stdout: string; stderr: string };

export type Running = {
  child: ChildProcess;
  stdout(): string;
  stderr(): string;
  done: Promise<Result>;
};

export type Workbench = {
  /** A temporary folder; the bundled plugins are in `bin` under it. */
  folder: string;
  bin: string;
  /** Writes a file into the folder and returns its path. */
  file(name: string, content: string, mode?: number): string;
  /** Writes a kubeconfig of one context for `api` with the given user and further fields of the cluster, and returns its path. */
  kubeconfig(api: Pick<FakeApi, 'url' | 'token' | 'authority'>, user?: object, cluster?: object): string;
  start(plugin: string, args: readonly string[], env?: Record<string, string>): Running;
  run(plugin: string, args: readonly string[], env?: Record<string, string>): Promise<Result>;
  close(): void;
};

/** Bundles the plugins as hack/build.ts does, into a folder of its own. */
export async function workbench(): Promise<Workbench> {
  const folder = mkdtempSync(join(tmpdir(), 'fairlead-plugins-'));
  const bin = join(folder, 'bin');
  await bundlePlugins(bin);
  const children = new Set<ChildProcess>();
  let files = 0;

  const bench: Workbench = {
    folder,
    bin,
    file(name, content, mode = 0o600) {
      const path = join(folder, name);
      writeFileSync(path, content, { mode });
      return path;
    },
    kubeconfig(api, user = { token: api.token }, cluster = {}) {
      const config = {
        apiVersion: 'v1',
        kind: 'Config',
        'current-context': 'lab',
        contexts: [{ name: 'lab', context: { cluster: 'lab', user: 'tester' } }],
        clusters: [
          {
            name: 'lab',
            cluster: {
              server: api.url,
              'certificate-authority-data': Buffer.from(api.authority.certificate).toString('base64'),
              ...cluster,
            },
          },
        ],
        users: [{ name: 'tester', user }],
      };
      return bench.file(`kubeconfig-${++files}`, stringify(config));
    },
    start(plugin, args, env = {}) {
      const child = spawn(process.execPath, [join(bin, plugin), ...args], {
        env: { PATH: process.env['PATH'] ?? '', HOME: folder, ...env },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      children.add(child);
      let [stdout, stderr] = ['', ''];
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        stdout += text;
      });
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        stderr += text;
      });
      const done = new Promise<Result>((resolve, reject) => {
        child.on('error', reject);
        child.on('close', (code) => {
          children.delete(child);
          resolve({ code, stdout, stderr });
        });
      });
      return { child, stdout: () => stdout, stderr: () => stderr, done };
    },
    run: (plugin, args, env) => bench.start(plugin, args, env).done,
    close() {
      for (const child of children) child.kill('SIGKILL');
      rmSync(folder, { recursive: true, force: true });
    },
  };
  return bench;
}
