import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { bootstrapGroup, bootstrapToken } from './agent.ts';
import { createApiClient } from './api-client.ts';
import { type Child, startChild } from './child.ts';

let child: Child;
beforeAll(async () => {
  child = await startChild();
});
afterAll(() => child?.stop());

test("a child's pod has a log, runs real commands and takes files", async () => {
  const { lab } = child;
  child.log('one');
  child.log('two');
  expect(await lab.kubectl(['logs', child.pod])).toMatchObject({ code: 0, stdout: 'one\ntwo\n' });
  expect(await lab.kubectl(['exec', child.pod, '--', 'pwd'])).toMatchObject({ code: 0, stdout: `${child.workDir}\n` });
  const failed = await lab.kubectl(['exec', child.pod, '--', 'sh', '-c', 'exit 3']);
  expect(failed).toMatchObject({ code: 1, stderr: expect.stringContaining('exit status 3') });
  const content = randomBytes(20_480 - 512 - 1_024);
  writeFileSync(join(lab.dir, 'source'), content);
  expect(await lab.kubectl(['cp', join(lab.dir, 'source'), `${child.pod}:copied`])).toMatchObject({ code: 0 });
  expect(readFileSync(join(child.workDir, 'copied')).equals(content)).toBe(true);
});

test('a bootstrap token is in its group and ends', async () => {
  const { lab } = child;
  const who = async (token: string) => {
    const client = createApiClient({ server: lab.apiServerURL, ca: lab.ca, credentials: { token } });
    try {
      const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'SelfSubjectReview' };
      return await client.request('POST', '/apis/authentication.k8s.io/v1/selfsubjectreviews', { body });
    } finally {
      client.close();
    }
  };
  const good = await who(await bootstrapToken(lab));
  expect(good.status, good.text).toBe(201);
  expect((JSON.parse(good.text) as { status: { userInfo: { groups: string[] } } }).status.userInfo.groups).toContain(bootstrapGroup);
  expect((await who(await bootstrapToken(lab, { seconds: -10 }))).status).toBe(401);
});
