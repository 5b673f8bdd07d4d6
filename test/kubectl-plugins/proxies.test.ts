import { connect, createServer, type Server, type Socket } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { issueCertificate } from '../../e2e/lab/certificates.ts';
import { type FakeApi, startFakeApi } from './fake-api.ts';
import { type Workbench, workbench } from './plugin.ts';

let bench: Workbench;
let api: FakeApi;

beforeAll(async () => {
  bench = await workbench();
  api = await startFakeApi();
}, 60_000);
afterAll(async () => {
  bench.close();
  await api.close();
});
beforeEach(() => {
  api.requests.length = 0;
});

/** `kubectl infra nodes -o name`, which needs one authenticated request. */
const nodes = (args: string[], env: Record<string, string> = {}) => bench.run('kubectl-infra', ['nodes', '-oname', ...args], env);
const NAMES = 'node.infraops.michael.io/n1\nnode.infraops.michael.io/n2\nnode.infraops.michael.io/n3\nnode.infraops.michael.io/n4\n';
const reached = { code: 0, stdout: NAMES, stderr: '' };
const client = (name: string) => issueCertificate(api.authority, { commonName: name, usages: ['clientAuth'] });
const base64 = (text: string) => Buffer.from(text).toString('base64');

describe('proxies', () => {
  let proxy: Server;
  let address: string;
  let asked: string[] = [];
  const sockets = new Set<Socket>();

  beforeAll(async () => {
    proxy = createServer((socket) => {
      sockets.add(socket);
      socket
        .on('error', () => socket.destroy())
        .once('data', (head: Buffer) => {
          const pipe = (host: string, port: number, answer: string | Buffer) => {
            const onward = connect(port, host, () => {
              socket.write(answer);
              onward.pipe(socket).pipe(onward);
            });
            sockets.add(onward);
            onward.on('error', () => socket.destroy());
          };
          if (head[0] === 5) {
            socket.write(Buffer.from([5, 0]));
            socket.once('data', (request: Buffer) => {
              const length = request[4] ?? 0;
              const host = request.subarray(5, 5 + length).toString();
              asked.push(`socks ${host}`);
              pipe(host, request.readUInt16BE(5 + length), Buffer.from([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]));
            });
            return;
          }
          const [line = '', ...headers] = head.toString('latin1').split('\r\n');
          asked.push(`${line} ${headers.find((header) => /^proxy-authorization/i.test(header)) ?? ''}`.trim());
          const [, host = '', port = ''] = /^CONNECT ([^:]+):(\d+) /.exec(line) ?? [];
          if (asked.at(-1)?.includes('Basic') && !asked.at(-1)?.includes(base64('u:p')))
            socket.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n');
          else pipe(host, Number(port), 'HTTP/1.1 200 Connection established\r\n\r\n');
        });
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    const at = proxy.address();
    address = `127.0.0.1:${typeof at === 'object' && at ? at.port : 0}`;
  });
  afterAll(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => proxy.close(resolve));
  });
  beforeEach(() => {
    asked = [];
  });
  const through = (url: string, user?: object) => nodes([`--kubeconfig=${bench.kubeconfig(api, user, { 'proxy-url': url })}`]);

  test('proxy-url http, with and without a password, for tokens and client certificates', async () => {
    expect(await through(`http://${address}`)).toEqual(reached);
    expect(asked).toEqual([`CONNECT 127.0.0.1:${api.port} HTTP/1.1`]);
    const { certificate, key } = client('proxied');
    expect(
      await through(`http://u:p@${address}`, { 'client-certificate-data': base64(certificate), 'client-key-data': base64(key) }),
    ).toEqual(reached);
    expect(api.requests.at(-1)?.certificate).toBe('proxied');
    expect(await through(`http://u:wrong@${address}`)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('407 Proxy Authentication Required'),
    });
  });

  test('proxy-url socks5', async () => {
    expect(await through(`socks5://${address}`)).toEqual(reached);
    expect(asked).toEqual(['socks 127.0.0.1']);
  });

  test('a proxy that is not there is named', async () => {
    expect(await through('http://127.0.0.1:1')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('proxy 127.0.0.1:1: connect ECONNREFUSED'),
    });
    expect(await through('ftp://127.0.0.1:1')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('only http, https and socks5 are supported'),
    });
  });

  test('HTTPS_PROXY is not used for loopback, as with kubectl', async () => {
    expect(await nodes([`--kubeconfig=${bench.kubeconfig(api)}`], { HTTPS_PROXY: `http://${address}` })).toEqual(reached);
    expect(asked).toEqual([]);
  });
});
