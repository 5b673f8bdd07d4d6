import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { verifyChain } from '../../src/hub/audit/verify.ts';
import { limit, times } from '../../test/support/counts.ts';
import { hubEnv } from '../hub/env.ts';
import { startLoad } from '../hub/load.ts';
import { waitFor } from '../lab/wait.ts';
import { callerTests } from './callers.ts';
import { conformanceTests } from './conformance.ts';
import { fuzzTests } from './fuzz.ts';
import { providerIDTests } from './provider-ids.ts';
import { saturationTests } from './saturation.ts';

const GROUP = 'infraops.michael.io';
const policy = fileURLToPath(new URL('audit-policy.yaml', import.meta.url));
const hubLog = () => join(env.lab.dir, 'hub-audit.log');

const env = hubEnv({
  lab: { kubeApiServerFlags: [`--audit-policy-file=${policy}`, '--audit-log-path={dir}/kube-audit.log'] },
  hub: {
    flags: () => [
      '--restart-cooldown=0',
      '--max-nodes-down=100%',
      '--max-nodes-down-per-zone=100%',
      '--shutdown-delay=0s',
      `--cert-extra-name=${env.lab.hubAddress}`,
      `--audit-log-path=${hubLog()}`,
    ],
  },
});

callerTests(env);
providerIDTests(env);
conformanceTests(env);
saturationTests(env);
fuzzTests(env);

type AuditLine = {
  auditID: string;
  verb: string;
  requestURI: string;
  userAgent?: string;
  user: { username: string };
  objectRef?: { apiGroup?: string; resource?: string; subresource?: string; name?: string };
  responseStatus?: { code: number };
};

const linesOf = (path: string, userAgent: string): AuditLine[] =>
  readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line.includes(userAgent))
    .map((line) => JSON.parse(line) as AuditLine);

const calls = times(600, 10_000);

test(`R66: ${calls} calls through kube-apiserver: one line each in the hub's audit log, with the Audit-ID of kube-apiserver's`, {
  timeout: limit(180_000, 1_800_000),
}, async () => {
  const userAgent = 'audit-comparison';
  const api = `/apis/${GROUP}/v1`;
  const paths: readonly (readonly [string, string])[] = [
    ['GET', `${api}/nodes`],
    ['GET', `${api}/nodes/worker-1`],
    ['GET', `${api}/nodes/no-such-node`],
    ['GET', `${api}/nodeoperations?limit=1`],
    ['POST', `${api}/nodes/worker-2/restart?dryRun=All`],
    ['POST', `${api}/nodes/worker-2/restart?force=perhaps`],
    ['DELETE', `${api}/nodes/worker-2`],
    ['GET', `${api}/nodes/worker-3/log`],
  ];
  let sent = 0;
  const ids = new Set<string>();
  const load = startLoad(8, async () => {
    if (sent >= calls) return undefined;
    const [method = '', path = ''] = paths[sent++ % paths.length] ?? [];
    const { headers } = await env.lab.api.request(method, path, { headers: { 'user-agent': userAgent } });
    ids.add(String(headers['audit-id']));
    return undefined;
  });
  try {
    await waitFor(() => ids.size >= calls, { what: 'all calls to be answered', timeout: limit(120_000, 1_200_000), interval: 100 });
  } finally {
    expect((await load.stop()).failures).toEqual([]);
  }
  expect(ids.size).toBe(calls);
  const kubeLog = join(env.lab.dir, 'kube-audit.log');
  await waitFor(() => linesOf(hubLog(), userAgent).length >= calls && linesOf(kubeLog, userAgent).length >= calls, {
    what: 'both audit logs to be written',
  });
  const [ours, kubes] = [linesOf(hubLog(), userAgent), linesOf(kubeLog, userAgent)];
  expect(ours).toHaveLength(calls);
  expect(new Set(ours.map(({ auditID }) => auditID))).toEqual(ids);
  expect(new Set(kubes.map(({ auditID }) => auditID))).toEqual(ids);
  const said = ({ verb, user, objectRef, responseStatus }: AuditLine) => ({
    verb,
    username: user.username,
    resource: objectRef?.resource,
    subresource: objectRef?.subresource,
    name: objectRef?.name,
    code: responseStatus?.code,
  });
  const byID = new Map(kubes.map((line) => [line.auditID, said(line)]));
  for (const line of ours) expect(said(line), line.requestURI).toEqual(byID.get(line.auditID));
  const whole = await verifyChain(hubLog());
  expect(whole).toMatchObject({ ok: true });
  const edited = join(env.lab.dir, 'edited-audit.log');
  writeFileSync(edited, readFileSync(hubLog(), 'utf8').replace('"username":"fairlead-admin"', '"username":"somebody-else"'));
  expect(await verifyChain(edited)).toMatchObject({ ok: false });
});
