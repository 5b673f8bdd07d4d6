import { execFile } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { waitFor } from '../../e2e/lab/wait.ts';
import { type FakeApi, fail, node, reply, startFakeApi } from './fake-api.ts';
import { type Workbench, workbench } from './plugin.ts';

let bench: Workbench;
let api: FakeApi;
let config: string;

beforeAll(async () => {
  bench = await workbench();
}, 60_000);
afterAll(() => bench.close());
beforeEach(async () => {
  api = await startFakeApi();
  config = bench.kubeconfig(api);
});
afterEach(() => api.close());

const infra = (...args: string[]) => bench.run('kubectl-infra', [...args, `--kubeconfig=${config}`]);
const operation = (name: string, nodeName: string, phase: 'Pending' | 'Succeeded') =>
  api.operations.set(name, {
    apiVersion: 'infraops.michael.io/v1',
    kind: 'NodeOperation',
    metadata: { name, resourceVersion: '50' },
    spec: { nodeName, action: 'Restart', requestedBy: { username: 'ann' } },
    status: { phase },
  });

describe('nodes and operations', () => {
  test('nodes as the table of the server, wide columns only with -o wide', async () => {
    expect(await infra('nodes', 'n1', 'n2')).toEqual({ code: 0, stderr: '', stdout: 'NAME   READY\nn1     True\nn2     True\n' });
    expect((await infra('nodes', '-lpool=n', '-owide')).stdout.split('\n')[0]).toBe('NAME   READY   BOOT ID');
    expect((await infra('nodes', 'n1', '--no-headers')).stdout).toBe('n1   True\n');
  });

  test('one that is missing does not hide the others', async () => {
    expect(await infra('nodes', 'n1', 'nope')).toEqual({
      code: 1,
      stdout: 'NAME   READY\nn1     True\n',
      stderr: 'error: from server (NotFound): nodes.infraops.michael.io "nope" not found\n',
    });
  });

  test('json and yaml give lists', async () => {
    expect(JSON.parse((await infra('nodes', '-ojson')).stdout)).toMatchObject({ kind: 'List', items: [{ kind: 'InfraNode' }, {}, {}, {}] });
    expect((await infra('nodes', 'n1', '-oyaml')).stdout).toMatch(/^apiVersion: infraops.michael.io\/v1\nkind: InfraNode\n/);
  });

  test('operations of one node, and none', async () => {
    operation('op1', 'n1', 'Pending');
    operation('op2', 'n2', 'Succeeded');
    expect((await infra('operations', '--node=n2')).stdout).toBe('NAME   PHASE\nop2    Succeeded\n');
    expect(await infra('operations', '--node', 'n3')).toEqual({ code: 0, stdout: '', stderr: 'No resources found\n' });
    expect((await infra('operations', '-oname')).stdout).toBe(
      'nodeoperation.infraops.michael.io/op1\nnodeoperation.infraops.michael.io/op2\n',
    );
  });

  test('-w shows changes over a cut connection, until Ctrl-C', async () => {
    operation('op1', 'n1', 'Pending');
    const running = bench.start('kubectl-infra', ['operations', '-w', '-oname', `--kubeconfig=${config}`]);
    await waitFor(() => api.watches() === 1, { what: 'the watch' });
    api.cutWatches();
    await waitFor(() => api.watches() === 1, { what: 'the watch again' });
    operation('op2', 'n2', 'Pending');
    api.set('op2', { phase: 'Succeeded' });
    await waitFor(() => running.stdout().includes('/op2'), { what: 'the change' });
    running.child.kill('SIGINT');
    expect(await running.done).toEqual({
      code: 0,
      stderr: '',
      stdout: 'nodeoperation.infraops.michael.io/op1\nnodeoperation.infraops.michael.io/op2\n',
    });
  });
});

describe('actions', () => {
  test('stop and start', async () => {
    expect(await infra('stop', 'n1', '--drain')).toMatchObject({ code: 0, stdout: expect.stringMatching(/^node\/n1 stopped/) });
    expect(await infra('start', 'n1')).toMatchObject({ code: 0, stdout: expect.stringMatching(/^node\/n1 started/) });
    expect(api.posts().map(({ path, body }) => [path.split('/').at(-1), body?.['kind'], body?.['drain']])).toEqual([
      ['stop', 'StopOptions', true],
      ['start', 'StartOptions', undefined],
    ]);
    expect(await infra('start', 'n1', '--drain')).toMatchObject({ code: 2, stderr: expect.stringContaining('unknown flag: --drain') });
  });

  test('cancel', async () => {
    operation('op1', 'n1', 'Pending');
    expect(await infra('cancel', 'op1', '--reason=wrong')).toEqual({ code: 0, stderr: '', stdout: 'nodeoperation/op1 cancelled\n' });
    expect(api.requests.at(-1)).toMatchObject({
      method: 'POST',
      path: '/apis/infraops.michael.io/v1/nodeoperations/op1/cancel',
      body: { kind: 'CancelOptions', reason: 'wrong' },
    });
    api.intercept = (_, response) => fail(response, 409, 'Conflict', 'the cloud has been called');
    expect(await infra('cancel', 'op1')).toMatchObject({ code: 1, stderr: 'error: from server (Conflict): the cloud has been called\n' });
    expect(await infra('cancel')).toMatchObject({ code: 2 });
  });

  test('instance', async () => {
    api.intercept = (_, response) =>
      reply(response, 200, {
        kind: 'NodeInstance',
        machine: { cloud: 'aws', region: 'us-east-1', zone: 'us-east-1a', instanceID: 'i-1' },
        status: {
          powerState: 'Running',
          providerState: 'running',
          type: 'm5.large',
          addresses: [{ type: 'InternalIP', address: '10.0.0.1' }],
        },
      });
    expect((await infra('instance', 'n1')).stdout).toBe(
      'Node:         n1\nCloud:        aws\nInstance:     i-1\nRegion:       us-east-1\nZone:         us-east-1a\nPower:        Running\nType:         m5.large\nInternalIP:   10.0.0.1\n',
    );
    expect((await infra('instance', 'n1', '-ojsonpath={.status.powerState}')).stdout).toBe('Running');
    expect(await infra('instance', 'n1', '-owide')).toMatchObject({ code: 2 });
  });

  test('logs, and with -f as the lines come', async () => {
    let stream: import('node:http').ServerResponse | undefined;
    api.intercept = ({ path, query }, response) => {
      if (!path.endsWith('/nodes/n1/log')) return false;
      response.writeHead(200, { 'content-type': 'text/plain' }).write('line 1\n');
      if (query.get('follow') === 'true') stream = response;
      else response.end();
      return true;
    };
    expect(await infra('logs', 'n1')).toEqual({ code: 0, stderr: '', stdout: 'line 1\n' });
    const running = bench.start('kubectl-infra', ['logs', '-f', 'n1', `--kubeconfig=${config}`]);
    await waitFor(() => running.stdout() === 'line 1\n', { what: 'the first line' });
    stream?.write('line 2\n');
    await waitFor(() => running.stdout() === 'line 1\nline 2\n', { what: 'the second line' });
    running.child.kill('SIGINT');
    expect(await running.done).toMatchObject({ code: 0, stderr: '' });
  });
});

describe('the plugin itself', () => {
  test('version, of both sides or of the client alone', async () => {
    const { code, stdout } = await infra('version');
    expect(code).toBe(0);
    expect(stdout).toMatch(/^Client: {6}\d+\.\d+\.\d+\S* \(Node\.js v/);
    expect(stdout).toContain('Kubernetes:  v1.36.3\nHub API:     infraops.michael.io/v1 (nodes, nodeoperations)\n');
    expect(Object.keys(JSON.parse((await infra('version', '--client', '-ojson')).stdout))).toEqual(['client']);
  });

  test('help, unknown commands, and flags before the command', async () => {
    expect(await infra('help')).toMatchObject({ code: 0, stdout: expect.stringMatching(/^kubectl infra - /) });
    expect(await infra('help', 'stop')).toMatchObject({ code: 0, stdout: expect.stringMatching(/^kubectl infra stop - /) });
    expect(await infra('frob')).toMatchObject({ code: 2, stderr: expect.stringContaining('unknown command "frob"') });
    expect(await bench.run('kubectl-infra', ['--kubeconfig', config, 'nodes', 'n1', '-oname'])).toMatchObject({
      code: 0,
      stdout: 'node.infraops.michael.io/n1\n',
    });
  });

  test('a reader that leaves early is no error', async () => {
    api.nodes.push(...Array.from({ length: 5000 }, (_, at) => node(`m${at}`)));
    const command = `"$0" "$1" nodes -oname --kubeconfig="$2" | head -1; exit "\${PIPESTATUS[0]}"`;
    const { stdout, stderr } = await promisify(execFile)('bash', [
      '-c',
      command,
      process.execPath,
      join(bench.bin, 'kubectl-infra'),
      config,
    ]);
    expect({ stdout, stderr }).toEqual({ stdout: 'node.infraops.michael.io/n1\n', stderr: '' });
  });

  test('completion install writes two executables beside the plugin, and nothing over those of others', async () => {
    const folder = join(bench.folder, 'installed');
    await promisify(execFile)('mkdir', [folder]);
    symlinkSync(join(bench.bin, 'kubectl-infra'), join(folder, 'kubectl-infra'));
    const PATH = `${folder}:${join(process.execPath, '..')}:${process.env['PATH']}`;
    const install = (...args: string[]) => bench.run('kubectl-infra', ['completion', 'install', ...args], { PATH });
    const files = ['restart', 'infra'].map((name) => join(folder, `kubectl_complete-${name}`));
    expect(await install()).toEqual({ code: 0, stderr: '', stdout: `${files.join('\n')}\n` });
    for (const file of files) {
      accessSync(file, constants.X_OK);
      expect(readFileSync(file, 'utf8')).toContain(`exec '${folder}/kubectl-infra'`);
    }
    expect(await install()).toMatchObject({ code: 0 });
    const { stdout } = await promisify(execFile)(join(folder, 'kubectl_complete-restart'), [`--kubeconfig=${config}`, 'n1'], {
      env: { PATH },
    });
    expect(stdout).toBe('n1\tReady\n:4\n');
    bench.file('installed/kubectl_complete-infra', '#!/bin/sh\n');
    expect(await install()).toMatchObject({ code: 1, stderr: expect.stringContaining('was written by something else') });
    expect(await install('--overwrite')).toMatchObject({ code: 0 });
    expect(await install('--dir', join(bench.folder, 'none'))).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('choose a folder in PATH'),
    });
    expect(existsSync(join(bench.folder, 'none'))).toBe(false);
  });
});
