import { expect, test } from 'vitest';
import { type HealthCheck, healthHandler } from '../../../src/hub/http/health.ts';
import { serve } from '../discovery/serve.ts';

const good: HealthCheck = { name: 'informer-sync', check: () => undefined };
const bad: HealthCheck = { name: 'leader', check: () => 'lease lost to 10.0.0.1' };
const broken: HealthCheck = {
  name: 'broken',
  check: () => {
    throw new Error('secret detail');
  },
};

async function hub(readyz: HealthCheck[], lines: string[] = []) {
  const handler = healthHandler({ healthz: [], livez: [], readyz }, (text) => lines.push(text));
  return await serve((request, response, next) => {
    if (!handler(request, response)) next();
  });
}

test('well: ok, and the checks with ?verbose', async () => {
  await using one = await hub([good]);
  expect(await one.get('/readyz')).toMatchObject({ code: 200, body: 'ok', headers: { 'content-type': 'text/plain; charset=utf-8' } });
  expect((await one.get('/readyz?verbose')).body).toBe('[+]ping ok\n[+]informer-sync ok\nreadyz check passed\n');
  expect((await one.get('/livez?verbose=1')).body).toBe('[+]ping ok\nlivez check passed\n');
  expect(await one.get('/healthz/')).toMatchObject({ code: 200, body: 'ok' });
  expect(await one.get('/readyz/informer-sync')).toMatchObject({ code: 200, body: 'ok' });
});

test('ill: 500 with the names; reasons only in the log', async () => {
  const lines: string[] = [];
  await using one = await hub([good, bad, broken], lines);
  const answer = await one.get('/readyz');
  expect(answer.code).toBe(500);
  expect(answer.body).toBe(
    '[+]ping ok\n[+]informer-sync ok\n[-]leader failed: reason withheld\n[-]broken failed: reason withheld\nreadyz check failed\n',
  );
  expect(lines).toEqual(['readyz check failed: leader: lease lost to 10.0.0.1; broken: the check itself failed: secret detail']);
  expect(await one.get('/readyz/leader')).toMatchObject({ code: 500, body: 'internal server error: reason withheld\n' });
  expect((await one.get('/livez')).code).toBe(200);
});

test('excluded checks are not run; names that match nothing are told', async () => {
  await using one = await hub([bad]);
  expect(await one.get('/readyz?exclude=leader')).toMatchObject({ code: 200, body: 'ok' });
  expect((await one.get('/readyz?exclude=leader&exclude=nope&verbose')).body).toBe(
    '[+]ping ok\n[+]leader excluded: ok\nwarn: some health checks cannot be excluded: no matches for "nope"\nreadyz check passed\n',
  );
});

test('other paths and methods', async () => {
  await using one = await hub([good]);
  for (const path of ['/readyz/none', '/readyz/ping/x', '/ready', '/', '/readyzz']) expect((await one.get(path)).code, path).toBe(404);
  expect(await one.get('/readyz', {}, 'POST')).toMatchObject({ code: 405, headers: { allow: 'GET, HEAD' } });
  expect(await one.get('/readyz', {}, 'HEAD')).toMatchObject({ code: 200, body: '' });
});
