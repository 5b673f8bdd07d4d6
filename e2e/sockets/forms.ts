import { beforeAll, describe, expect, test } from 'vitest';
import { type ApiClient, createApiClient } from '../lab/api-client.ts';
import type { SocketsEnv } from './env.ts';
import type { LocalTarget } from './local-target.ts';

type Echo = { method: string; url: string; headers: string[]; body: string };

/** The URL forms of clusternet, old and new, and bytes that arrive as they were sent. */
export function formTests(env: SocketsEnv, target: () => LocalTarget): void {
  let dev: ApiClient;
  beforeAll(() => {
    dev = env.parent.clientFor({ user: 'dev', groups: ['devs'] });
  });
  const socket = async () => `/apis/proxies.clusternet.io/v1alpha1/sockets/${await env.agent.clusterID()}`;

  describe('URL forms', () => {
    test("proxy/direct and proxy/https/HOST:PORT lead to the agent's own API server", async () => {
      const own = new URL(env.child.lab.apiServerURL).host;
      for (const form of ['proxy/direct', `proxy/https/${own}`, `https/${own}`]) {
        const answer = await dev.request('GET', `${await socket()}/${form}/version`);
        expect(answer.status, `${form}: ${answer.text}`).toBe(200);
        expect(JSON.parse(answer.text)).toMatchObject({ major: '1' });
      }
    });

    const reaches = async (client: ApiClient, form: string, path: string) => {
      const url = `${await socket()}/${form}/127.0.0.1:${target().port}${path}`;
      const answer = await client.request('POST', url, { body: 'sent' });
      expect(answer.status, `${url}: ${answer.text}`).toBe(200);
      const echo = JSON.parse(answer.text) as Echo;
      expect(echo).toMatchObject({ method: 'POST', body: 'sent', url: path });
      const names = echo.headers.filter((_, index) => index % 2 === 0).map((name) => name.toLowerCase());
      expect(names.filter((name) => /^(x-remote-|impersonate-|authorization$|fairlead-)/.test(name))).toEqual([]);
    };

    test('proxy/http/HOST:PORT and http/HOST:PORT lead to an allowed target', async () => {
      for (const form of ['proxy/http', 'http']) for (const path of ['/', '/a/b?x=1', '/a//c/']) await reaches(dev, form, path);
    });

    // kube-aggregator decodes the path and writes the query anew; at the hub itself every byte counts.
    test('R24: at the hub itself every byte of path and query arrives as it was sent, at both replicas', async () => {
      const ca = await env.hub.caBundle();
      const credentials = env.parent.clientCertificate({ user: 'dev', groups: ['devs'] });
      for (const { directURL } of env.hub.replicas) {
        const client = createApiClient({ server: directURL, ca, credentials });
        try {
          for (const path of ['/a%2Fb//c', '/%252e/x', '/;v=1/%E4?&&a=%20+&b', '/a%00b?y=%00']) await reaches(client, 'proxy/http', path);
        } finally {
          client.close();
        }
      }
    });

    test('a target that is not allowed is 403 and not reached; one that refuses is 502 and named', async () => {
      const before = target().requests;
      for (const host of ['169.254.169.254', 'localhost:2379', '127.0.0.1:1', `127.0.0.1:${target().port + 1}`]) {
        const answer = await dev.request('GET', `${await socket()}/proxy/http/${host}/`);
        expect(answer.status, `${host}: ${answer.text}`).toBe(403);
        expect(JSON.parse(answer.text)).toMatchObject({ kind: 'Status', reason: 'Forbidden' });
      }
      expect(target().requests).toBe(before);
      await target().close();
      const refused = await dev.request('GET', `${await socket()}/proxy/http/127.0.0.1:${target().port}/`);
      expect(refused.status, refused.text).toBe(502);
      expect((JSON.parse(refused.text) as { message: string }).message).toContain(`127.0.0.1:${target().port}`);
    });

    test('other schemes and forms are refused with a Status', async () => {
      for (const form of ['proxy/ftp/127.0.0.1/x', 'proxy/nonsense', 'nonsense/127.0.0.1/x']) {
        // As admin: kube-apiserver takes the form for a subresource, and refuses those that others have no role for.
        const answer = await env.parent.api.request('GET', `${await socket()}/${form}`);
        expect([400, 404], `${form}: ${answer.status} ${answer.text}`).toContain(answer.status);
        expect(JSON.parse(answer.text)).toMatchObject({ kind: 'Status' });
      }
    });
  });
}
