import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { limit, longRun } from '../../test/support/counts.ts';
import { freePort } from '../lab/ports.ts';
import { pause, waitFor } from '../lab/wait.ts';
import type { Kubectl, SocketsEnv } from './env.ts';

/** Sends `bytes` to a forwarded port and resolves with as many bytes of the answer. */
function echoed(port: number, bytes: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes));
    socket.once('error', reject);
    socket.once('close', () => reject(new Error(`the connection ended after ${length} of ${bytes.length} bytes`)));
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      length += chunk.length;
      if (length < bytes.length) return;
      resolve(Buffer.concat(chunks));
      socket.destroy();
    });
  });
}

/** What people do with kubectl, through the parent and the tunnel. */
export function commandTests(env: Pick<SocketsEnv, 'parent' | 'child'>, dev: () => Kubectl): void {
  describe('kubectl through the parent', () => {
    test('get lists what is there, as the user of the parent', async () => {
      expect(await dev().ok(['get', 'pods'])).toMatch(/^web\s+1\/1\s+Running/m);
      expect(await dev().ok(['get', 'nodes', '-o', 'name'])).toBe(`node/${env.child.node}\n`);
      const { userInfo } = JSON.parse(await dev().ok(['auth', 'whoami', '-o', 'json'])).status;
      expect(userInfo.username).toBe('dev');
      expect([...userInfo.groups].sort()).toEqual(['devs', 'system:authenticated']);
    });

    test('create, apply, patch, wait and delete', async () => {
      await dev().ok(['create', 'configmap', 'made', '--from-literal=a=1']);
      const changed = JSON.stringify({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'applied' }, data: { b: '2' } });
      await dev().ok(['apply', '--server-side', '-f', '-'], { input: changed });
      await dev().ok(['patch', 'configmap', 'applied', '--type=merge', '-p', '{"data":{"c":"3"}}']);
      const { data } = await env.child.lab.api.json<{ data: object }>('GET', '/api/v1/namespaces/default/configmaps/applied');
      expect(data).toEqual({ b: '2', c: '3' });
      await dev().ok(['delete', 'configmap', 'made', 'applied']);
      const gone = await dev().run(['get', 'configmap', 'made']);
      expect(gone).toMatchObject({ code: 1, stderr: 'Error from server (NotFound): configmaps "made" not found\n' });
    });

    test('a body of 1 MB arrives whole', async () => {
      const text = randomBytes(500_000).toString('hex');
      const object = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'large' }, data: { text } };
      await dev().ok(['create', '-f', '-'], { input: JSON.stringify(object) });
      expect(await dev().ok(['get', 'configmap', 'large', '-o', 'jsonpath={.data.text}'])).toBe(text);
      await dev().ok(['delete', 'configmap', 'large']);
    });

    test(`get -w tells of what happens${longRun ? ', also after 65 s' : ''}`, { timeout: limit(180_000, 300_000) }, async () => {
      const watch = dev().start(['get', 'configmaps', '-w', '-o', 'name']);
      try {
        await waitFor(() => watch.output().includes('kube-root-ca.crt'), { what: 'the list' });
        // The limit of kube-apiserver for requests that it does not take for long-running is 60 s.
        if (longRun) await pause(65_000);
        await env.child.lab.kubectl(['create', 'configmap', 'late']);
        await waitFor(() => watch.output().includes('configmap/late'), { what: 'the watch to tell of configmap late' });
        expect(watch.exitCode()).toBeNull();
        expect(watch.errors()).toBe('');
      } finally {
        await watch.stop();
        await env.child.lab.kubectl(['delete', 'configmap', 'late']);
      }
    });

    test('logs, and logs -f line by line', async () => {
      env.child.log('first line');
      const follow = dev().start(['logs', '-f', 'web']);
      try {
        await waitFor(() => follow.output().includes('first line\n'), { what: 'the first line' });
        for (const line of ['second line', 'third line']) {
          env.child.log(line);
          await waitFor(() => follow.output().includes(`${line}\n`), { what: line });
        }
        expect(follow.exitCode()).toBeNull();
      } finally {
        await follow.stop();
      }
      expect(await dev().ok(['logs', 'web', '--tail=1'])).toBe('third line\n');
    });

    for (const [name, variable] of [
      ['WebSocket', 'true'],
      ['SPDY', 'false'],
    ] as const) {
      const protocol = { KUBECTL_REMOTE_COMMAND_WEBSOCKETS: variable, KUBECTL_PORT_FORWARD_WEBSOCKETS: variable };

      test(`exec over ${name}: output, errors, input, and a command that fails`, async () => {
        const both = await dev().run(['exec', 'web', '--', 'sh', '-c', 'pwd; echo problem >&2'], { env: protocol });
        expect(both).toMatchObject({ code: 0, stdout: `${env.child.workDir}\n`, stderr: expect.stringContaining('problem') });
        const input = 'x'.repeat(100_000);
        const counted = await dev().run(['exec', '-i', 'web', '--', 'sh', '-c', 'head -c 100000 | wc -c'], { env: protocol, input });
        expect(counted).toMatchObject({ code: 0, stdout: '100000\n' });
        const failed = await dev().run(['exec', 'web', '--', 'sh', '-c', 'exit 3'], { env: protocol });
        expect(failed.code).not.toBe(0);
        expect(failed.stderr).toContain('exit status 3');
      });

      test(`exec over ${name}: 5 MB of output are whole`, async () => {
        const { code, stdout } = await dev().run(['exec', 'web', '--', 'sh', '-c', 'yes fairlead | head -c 5000000'], { env: protocol });
        expect({ code, length: stdout.length }).toEqual({ code: 0, length: 5_000_000 });
        expect(stdout.replaceAll('fairlead\n', '')).toBe('fairlead\n'.slice(0, 5_000_000 % 9));
      });

      test(`cp over ${name}, to the pod and back`, async () => {
        // tar in the pod reads blocks of 10,240 bytes, and kwok does not tell it the end of its input: the archive has that size.
        const content = randomBytes(20_480 - 512 - 1_024);
        const [source, back] = [join(env.parent.dir, `source-${name}`), join(env.parent.dir, `back-${name}`)];
        writeFileSync(source, content);
        await dev().ok(['cp', source, `web:copied-${name}`], { env: protocol });
        expect(readFileSync(join(env.child.workDir, `copied-${name}`)).equals(content)).toBe(true);
        await dev().ok(['cp', `web:copied-${name}`, back], { env: protocol });
        expect(readFileSync(back).equals(content)).toBe(true);
      });

      test(`port-forward over ${name}: several connections at once, each gets its own bytes back`, async () => {
        const port = await freePort();
        const forward = dev().start(['port-forward', 'pod/web', `${port}:80`], protocol);
        try {
          await waitFor(() => forward.output().includes(`Forwarding from 127.0.0.1:${port}`), { what: 'the port to be forwarded' });
          const messages = Array.from({ length: 8 }, () => randomBytes(300_000));
          const answers = await Promise.all(messages.map((message) => echoed(port, message)));
          answers.forEach((answer, index) => {
            expect(answer.equals(messages[index] ?? Buffer.alloc(0))).toBe(true);
          });
        } finally {
          await forward.stop();
        }
      });
    }

    test('attach shows the log of the container', async () => {
      const attached = dev().start(['attach', 'web']);
      let line = 0;
      try {
        const seen = () => {
          // Only what is written from now on is shown, and it is not told when that is.
          env.child.log(`seen by attach ${++line}`);
          return /seen by attach \d+\n/.test(attached.output());
        };
        await waitFor(seen, { what: 'a line', interval: 100 });
      } finally {
        await attached.stop();
      }
    });
  });
}
