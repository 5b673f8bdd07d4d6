import { expect, test } from 'vitest';
import { cleanUp } from '../../../support/clean-up.ts';
import { asking, cluster, installed } from '../support/sandbox.ts';

const clean = cleanUp();
const refused = (...fields: string[]) => ({
  status: { code: 422, details: { causes: fields.map((field) => expect.objectContaining({ field })) } },
});

test('PUT of the version that the cluster has is nothing to do, and does not drop what it names besides', async () => {
  const { service } = await installed(clean, {}, { artifacts: { source: '/srv/k' } });
  const { metadata = {}, spec } = await service.get();
  for (const body of [{ spec: { version: '1.35.4' } }, { metadata, spec }, cluster({ artifacts: { source: '/srv/k' } })]) {
    expect(await service.upgrade(body, asking('same'))).toMatchObject({ status: { operation: { auditID: 'install' } } });
  }
  const asked = { version: 'v1.35.4', artifacts: { source: '/srv/other' }, upgrade: { componentTimeout: '90s' } };
  await expect(service.upgrade({ spec: asked }, asking('put'))).rejects.toMatchObject(
    refused('spec.artifacts.source', 'spec.upgrade.componentTimeout'),
  );
  await expect(service.upgrade({ spec: asked }, asking('put', true))).rejects.toThrow('use PATCH for this field');
});

test('metadata is not dropped: what differs is refused; what is left out, and the name, do not count', async () => {
  const { service } = await installed(clean);
  const metadata = { owner: 'other', floor: '3' };
  for (const version of ['v1.35.4', 'v1.36.3'])
    await expect(service.upgrade({ metadata, spec: { version } }, asking('put'))).rejects.toMatchObject(
      refused('metadata.owner', 'metadata.floor'),
    );
  const spec = { apiServer: { certSANs: ['a.example'] } };
  await expect(service.patch({ metadata, spec }, asking('patch'))).rejects.toMatchObject(refused('metadata.owner', 'metadata.floor'));
  // The parent has a name of its own for it.
  const named = { metadata: { owner: 'edge', name: 'edge-1' }, spec: { version: 'v1.35.4' } };
  expect(await service.upgrade(named, asking('named'))).toMatchObject({ metadata: { owner: 'edge' } });
  expect((await service.get()).status.operation?.auditID).toBe('install');
});
