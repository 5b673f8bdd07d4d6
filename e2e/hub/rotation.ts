import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { limit, longRun, times } from '../../test/support/counts.ts';
import { createApiClient } from '../lab/api-client.ts';
import { createAuthority, issueCertificate } from '../lab/certificates.ts';
import { waitFor } from '../lab/wait.ts';
import { API, type HubEnv } from './env.ts';
import { shownCertificate } from './shown-certificate.ts';
import { startTraffic } from './traffic.ts';

/** Life of the certificates that the hub makes, in seconds. */
export const SHORT_LIFE = longRun ? 60 : 24;

const kubeApiServerLog = (env: HubEnv) => readFileSync(join(env.lab.dir, 'kube-apiserver.log'), 'utf8');

type AuthenticationConfig = { data: Record<string, string>; metadata: object };
const CONFIG = '/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication';

/** Certificates change while requests go on. */
export function rotationTests(env: HubEnv): void {
  test(`R51: certificates of ${SHORT_LIFE} s made by the hub: ${times(2, 180)} rotations under load, no failed request, no restart`, {
    timeout: limit(120_000, 3 * 3_600_000),
  }, async () => {
    const { replicas } = env.hub;
    const pids = replicas.map((one) => one.process?.pid);
    const serials = replicas.map(() => new Set<string>());
    const load = startTraffic(env, 3);
    let stopped: Awaited<ReturnType<typeof load.stop>> | undefined;
    try {
      await waitFor(
        async () => {
          for (const [index, replica] of replicas.entries()) {
            const certificate = await shownCertificate(replica);
            expect(certificate.validToDate.getTime(), 'the end of the certificate in use').toBeGreaterThan(Date.now());
            serials[index]?.add(certificate.serialNumber);
          }
          return serials.every((seen) => seen.size > times(2, 180));
        },
        { what: 'the replicas to have rotated', timeout: limit(110_000, 3 * 3_600_000), interval: 500 },
      );
    } finally {
      stopped = await load.stop();
    }
    expect(stopped.failures).toEqual([]);
    expect(stopped.total).toBeGreaterThan(times(200, 10_000));
    // Both replicas share each certificate.
    expect([...(serials[0] ?? [])].filter((serial) => serials[1]?.has(serial)).length).toBeGreaterThanOrEqual(times(2, 180));
    expect(replicas.map((one) => one.process?.pid)).toEqual(pids);
    await env.hub.waitForAvailable();
  });

  test('R13: the CA of the front proxy is replaced live: the new one counts within 5 s, the old one no more, no failed request, no restart', async () => {
    const { files, frontProxyCA } = env.lab.pki;
    const replace = (path: string, text: string) => {
      writeFileSync(`${path}.new`, text, { mode: 0o600 });
      renameSync(`${path}.new`, path);
    };
    const replica = env.hub.replica(0);
    const serverName = `${env.hub.serviceName}.${env.hub.namespace}.svc`;
    const oldProxy = issueCertificate(frontProxyCA, { commonName: 'front-proxy-client', usages: ['clientAuth'] });
    const newCA = createAuthority('fairlead-lab-front-proxy-ca-2');
    const newProxy = issueCertificate(newCA, { commonName: 'front-proxy-client', usages: ['clientAuth'] });
    /** What the hub answers to a front proxy with this certificate, on a new connection. */
    const asProxy = async (pair: { certificate: string; key: string }) => {
      const client = createApiClient({ server: replica.url, ca: await env.hub.caBundle(), servername: serverName, credentials: pair });
      try {
        const headers = { 'x-remote-user': 'front-proxied', 'x-remote-group': 'system:masters' };
        return (await client.request('GET', `${API}/nodes`, { headers })).status;
      } finally {
        client.close();
      }
    };
    const published = async () => (await env.lab.api.json<AuthenticationConfig>('GET', CONFIG)).data['requestheader-client-ca-file'] ?? '';
    const pids = env.hub.replicas.map((one) => one.process?.pid);
    expect([await asProxy(oldProxy), await asProxy(newProxy)]).toEqual([200, 401]);

    const load = startTraffic(env, 3);
    let stopped: Awaited<ReturnType<typeof load.stop>> | undefined;
    try {
      // Both CAs: kube-apiserver reads the file again by itself and publishes it.
      replace(files['front-proxy-ca.crt'], `${frontProxyCA.certificate}${newCA.certificate}`);
      await waitFor(async () => (await published()).includes(newCA.certificate.trim()), {
        what: 'kube-apiserver to publish the new CA',
        timeout: 90_000,
      });
      const began = performance.now();
      await waitFor(async () => (await asProxy(newProxy)) === 200, { what: 'the hub to believe the new CA', timeout: 5_000 });
      expect(performance.now() - began).toBeLessThan(5_000);
      expect(await asProxy(oldProxy)).toBe(200);
      // kube-apiserver itself goes over to a certificate of the new CA.
      const logged = kubeApiServerLog(env).length;
      replace(files['front-proxy-client.key'], newProxy.key);
      replace(files['front-proxy-client.crt'], newProxy.certificate);
      await waitFor(() => kubeApiServerLog(env).includes('aggregator-proxy-cert', logged), {
        what: 'kube-apiserver to load its new certificate',
        timeout: 90_000,
      });
      // Requests that began before are through when each worker has begun another one.
      const sofar = load.total;
      await waitFor(() => load.total > sofar + 10, { what: 'ten requests with the new certificate' });
      // Only the new one. kube-apiserver merges what it published before, so somebody has to take the old one out.
      replace(files['front-proxy-ca.crt'], newCA.certificate);
      const { data, metadata } = await env.lab.api.json<AuthenticationConfig>('GET', CONFIG);
      const only = { ...data, 'requestheader-client-ca-file': newCA.certificate };
      await env.lab.api.json('PUT', CONFIG, { body: { apiVersion: 'v1', kind: 'ConfigMap', metadata, data: only } });
      await waitFor(async () => (await asProxy(oldProxy)) === 401, { what: 'the hub to refuse the old CA', timeout: 10_000 });
      expect(await asProxy(newProxy)).toBe(200);
    } finally {
      stopped = await load.stop();
    }
    expect(stopped.failures).toEqual([]);
    expect(stopped.total).toBeGreaterThan(20);
    expect(env.hub.replicas.map((one) => one.process?.pid)).toEqual(pids);
    await env.hub.waitForAvailable();
  });
}
