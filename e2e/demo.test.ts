import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { runCommand } from './lab/kubectl.ts';
import { undoAtExit } from './lab/leftovers.ts';
import { dyingWithUs } from './lab/process.ts';
import { waitFor } from './lab/wait.ts';

const demo = fileURLToPath(new URL('../hack/demo.ts', import.meta.url));

// A temporary folder of its own: what is in it after a demo was left behind by that demo, whatever else runs on the machine.
let temporary: string;
let env: Record<string, string>;
let forget: () => void;
beforeEach(() => {
  temporary = mkdtempSync(join(tmpdir(), 'fairlead-demo-test-'));
  forget = undoAtExit(() => rmSync(temporary, { recursive: true, force: true }));
  env = { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '', TMPDIR: temporary };
});
afterEach(() => {
  forget();
  rmSync(temporary, { recursive: true, force: true });
});

/** Addresses of the machine that the demo in our folder has put there. */
function demoAddresses(): string[] {
  const marks = readdirSync(temporary).filter((name) => name.startsWith('fairlead-addresses-'));
  return marks.flatMap((name) => readdirSync(join(temporary, name)));
}

test('the demo restarts a node by kubectl and leaves nothing behind', async () => {
  const { code, stdout, stderr } = await runCommand(...dyingWithUs(process.execPath, [demo, '--check'], 'TERM'), { env, timeout: 150_000 });
  expect({ code, stderr }, stdout).toMatchObject({ code: 0 });
  expect(stdout).toContain('was rebooted once');
  expect(readdirSync(temporary)).toEqual([]);
});

test('the KUBECONFIG and PATH that the demo prints work in a shell, and Ctrl-C leaves nothing behind', async () => {
  const child = spawn(...dyingWithUs(process.execPath, [demo], 'TERM'), { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  const collect = (chunk: Buffer) => {
    output += chunk.toString('utf8');
  };
  child.stdout.on('data', collect);
  child.stderr.on('data', collect);
  const exited = new Promise<number | null>((resolve) => child.once('exit', resolve));
  try {
    await waitFor(() => output.includes('Ctrl-C') || child.exitCode !== null, { what: 'the demo to be up', timeout: 120_000 });
    const exports = output.split('\n').filter((line) => line.startsWith('export '));
    expect(exports, output).toHaveLength(2);
    const script = `${exports.join('\n')}\nkubectl get nodes.infraops.michael.io -o name && kubectl plugin list --name-only`;
    const shell = await runCommand('sh', ['-c', script], { env });
    expect(shell, shell.stderr).toMatchObject({ code: 0 });
    expect(shell.stdout).toContain('/worker-4\n');
    expect(shell.stdout).toMatch(/kubectl-restart\n/);
    expect(shell.stdout).toMatch(/kubectl-infra\n/);
    const addresses = demoAddresses();
    child.kill('SIGINT');
    expect(await exited).toBe(0);
    expect(readdirSync(temporary)).toEqual([]);
    const left = execFileSync('ip', ['-4', '-o', 'addr', 'show'], { encoding: 'utf8' });
    expect(addresses.filter((address) => left.includes(` ${address}/`))).toEqual([]);
  } finally {
    child.kill('SIGKILL');
    await exited;
  }
});
