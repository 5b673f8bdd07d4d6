import { Agent, request } from 'node:https';
import { expect, test } from 'vitest';
import { API, type HubEnv } from '../hub/env.ts';
import { type ApiClient, createApiClient } from '../lab/api-client.ts';
import { type Certificate, createAuthority, issueCertificate } from '../lab/certificates.ts';
import { waitFor } from '../lab/wait.ts';

/** Who pretends to be somebody, and who does not say who they are. */
export function callerTests(env: HubEnv): void {
  const direct = async (credentials?: Certificate): Promise<ApiClient> => {
    const replica = env.hub.replica(0);
    const servername = `${env.hub.serviceName}.${env.hub.namespace}.svc`;
    return createApiClient({ server: replica.url, ca: await env.hub.caBundle(), servername, ...(credentials && { credentials }) });
  };
  const calls = () => [...env.lab.ec2.gate.arrivals().values()].reduce((sum, count) => sum + count, 0);

  test('R1: X-Remote-* headers without the certificate of the front proxy: 24 of 24 refused, no call of the cloud', async () => {
    const { frontProxyCA, clusterCA } = env.lab.pki;
    const front = { commonName: 'front-proxy-client', usages: ['clientAuth'] as const };
    const impostor = createAuthority('fairlead-lab-front-proxy-ca');
    const certificates: Record<string, Certificate | undefined> = {
      'no certificate': undefined,
      'a certificate of the client CA with the same name': issueCertificate(clusterCA, { ...front, organizations: ['system:masters'] }),
      'one for servers only': issueCertificate(frontProxyCA, { ...front, usages: ['serverAuth'] }),
      'another name': issueCertificate(frontProxyCA, { ...front, commonName: 'front-proxy-impostor' }),
      'one that is over': issueCertificate(frontProxyCA, {
        ...front,
        notBefore: new Date(Date.now() - 7_200_000),
        notAfter: new Date(Date.now() - 60_000),
      }),
      'one of a CA with the same name': issueCertificate(impostor, front),
    };
    const identities: Record<string, Record<string, string>> = {
      user: { 'x-remote-user': 'fairlead-admin' },
      group: { 'x-remote-user': 'fairlead-admin', 'x-remote-group': 'system:masters' },
      uid: { 'x-remote-user': 'fairlead-admin', 'x-remote-uid': '1', 'x-remote-group': 'system:masters' },
      extra: { 'x-remote-user': 'fairlead-admin', 'x-remote-group': 'system:masters', 'x-remote-extra-scopes': 'all' },
    };
    const path = `${API}/nodes/worker-1/restart`;
    const before = calls();
    const answers: string[] = [];
    for (const [holder, certificate] of Object.entries(certificates)) {
      const client = await direct(certificate);
      for (const [what, headers] of Object.entries(identities)) {
        const { status } = await client.request('POST', path, { headers });
        answers.push(`${holder}, ${what}: ${status}`);
      }
      client.close();
    }
    expect(answers).toHaveLength(24);
    expect(answers.filter((answer) => !/: 40[13]$/.test(answer))).toEqual([]);
    expect(calls()).toBe(before);

    const genuine = await direct(issueCertificate(frontProxyCA, front));
    expect(await genuine.request('POST', `${path}?dryRun=All`, { headers: identities['group'] ?? {} })).toMatchObject({ status: 200 });
    genuine.close();
  });

  test('R15: nobody gets anything but health, on any path of OpenAPI and beside it, straight and through kube-apiserver', async () => {
    // kube-apiserver learns of the documents in the background.
    const document = await waitFor(() => env.lab.api.json<{ paths: Record<string, object> }>('GET', `/openapi/v3${API}`), {
      what: 'kube-apiserver to have the OpenAPI document',
    });
    const served = Object.keys(document.paths).map((path) => path.replace('{name}', 'worker-1'));
    expect(served.length).toBeGreaterThanOrEqual(10);
    const beside = [
      '/',
      '/apis',
      '/apis/infraops.michael.io',
      API,
      '/openapi/v2',
      '/openapi/v3',
      `/openapi/v3${API}`,
      '/version',
      '/metrics',
      '/metrics/',
    ];
    const crooked = [
      '//metrics',
      '/healthz/../metrics',
      '/livez/%2e%2e/metrics',
      '/readyz%2f..%2fmetrics',
      `${API}/nodes/..%2fworker-1`,
      `${API}//nodes`,
      '/healthz/ping/..',
      '/debug/pprof',
      '/logs',
    ];
    const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];
    const nobody = await direct();
    const replica = env.hub.replica(0);
    const ca = await env.hub.caBundle();
    const agent = new Agent({ keepAlive: true, ca, servername: `${env.hub.serviceName}.${env.hub.namespace}.svc` });
    /** The path goes out as it is; a URL would be straightened. */
    const raw = (method: string, path: string) =>
      new Promise<number>((resolve, reject) => {
        const outgoing = request({ host: replica.ip, port: replica.port, method, path, agent }, (answer) => {
          answer.resume();
          answer.once('end', () => resolve(answer.statusCode ?? 0));
        });
        outgoing.once('error', reject);
        outgoing.end();
      });
    const before = calls();
    const answered: string[] = [];
    for (const path of [...served, ...beside, ...crooked]) {
      for (const method of methods) {
        const status = await raw(method, path);
        if (status !== 401 && status !== 403) answered.push(`${method} ${path}: ${status}`);
      }
    }
    expect(answered).toEqual([]);
    for (const path of ['/healthz', '/livez', '/readyz']) expect((await nobody.request('GET', path)).status).toBe(200);
    nobody.close();
    agent.destroy();

    const anonymous = createApiClient({ server: env.lab.apiServerURL, ca: env.lab.ca });
    for (const path of served) {
      for (const method of methods.filter((one) => one !== 'OPTIONS')) {
        expect((await anonymous.request(method, path)).status, `${method} ${path} through kube-apiserver`).toBe(403);
      }
    }
    anonymous.close();
    expect(calls()).toBe(before);
  });
}
