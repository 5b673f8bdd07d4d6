import type { RunningHub } from '../../support/running-hub.ts';

export const BASE = '/apis/infraops.michael.io/v1';
export const NODES = '/api/v1/nodes';
export const MAPS = '/api/v1/namespaces/fairlead-system/configmaps';
export const node = (name: string, providerID = `aws:///us-east-1a/i-${name.padStart(17, '0').replaceAll(/[^0-9a-f]/g, '0')}`) => ({
  metadata: { name },
  spec: { providerID },
  status: { conditions: [{ type: 'Ready', status: 'True' }], nodeInfo: { bootID: 'boot-1' } },
});
export const operations = (hub: RunningHub) =>
  hub.api.all(MAPS).filter(({ metadata }) => metadata.labels?.['infraops.michael.io/object'] === 'operation');
export const isReady = async (hub: RunningHub) => (await hub.ask({ path: '/readyz' })).code === 200;
