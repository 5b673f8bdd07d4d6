import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Hub, startHub } from '../lab/hub.ts';
import { type Lab, startLab } from '../lab/lab.ts';
import { workerNodes } from '../lab/nodes.ts';
import { type KubeGate, startKubeGate } from '../support/kube-gate.ts';
import { begin, ended, expectReleased, fastFlags, kubeconfigThrough } from '../support/operations.ts';
import { runPod } from '../support/pods.ts';

let lab: Lab;
let hub: Hub;
let gate: KubeGate;
beforeAll(async () => {
  console.time('lab');
  lab = await startLab({ nodes: workerNodes(6) });
  console.timeEnd('lab');
  gate = await startKubeGate({ server: lab.apiServerURL, ca: lab.ca });
  lab.defer(gate.stop);
  console.time('hub');
  hub = await startHub(lab, { replicas: 2, flags: () => [...fastFlags, `--kubeconfig=${kubeconfigThrough(lab, gate.url)}`] });
  console.timeEnd('hub');
});
afterAll(() => lab?.stop());
test('one', async () => {
  const node = lab.node(0);
  await hub.waitForLeader();
  await runPod(lab, { name: 'p1', nodeName: node.name });
  gate.onRequest((r) => {
    if (r.method !== 'GET') {
      let s = '';
      try {
        const st = JSON.parse(JSON.parse(r.body).data.status);
        s = `${st.phase} ${JSON.stringify(st.calls)} ${st.message}`;
      } catch {}
      console.log(r.method, r.path, s || r.body.slice(0, 200));
    }
  });
  console.time('op');
  const name = await begin(lab, node, { drain: true, evictUnmanaged: true });
  const op = await ended(lab, name);
  console.timeEnd('op');
  console.log(JSON.stringify(op, null, 1));
  expect(op.status.phase).toBe('Succeeded');
  await expectReleased(lab, node);
  const leader = await hub.waitForLeader();
  console.time('takeover');
  console.time('restart');
  await hub.kill(leader);
  const start = hub.start(leader).then(() => console.timeEnd('restart'));
  await hub.waitForLeader();
  console.timeEnd('takeover');
  await start;
});
