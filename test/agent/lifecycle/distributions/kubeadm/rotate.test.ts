import { expect, test } from 'vitest';
import { kubeadm } from '../../../../../src/agent/lifecycle/distributions/kubeadm/kubeadm.ts';
import { restartStaticPods } from '../../../../../src/agent/lifecycle/distributions/kubeadm/static-pods.ts';
import type { Step } from '../../../../../src/agent/lifecycle/operations/step.ts';
import { issueCertificate } from '../../../../../src/hub/certificates/x509.ts';
import { cleanUp } from '../../../../support/clean-up.ts';
import { SPEC } from './facts.ts';
import { brief, machineFolder } from './machine-folder.ts';

const clean = cleanUp();
const DAY = 86_400_000;
const steps = kubeadm.rotate(SPEC);

function stepOf(name: string): Step {
  const found = steps.find((step) => step.name === name);
  if (!found) throw new Error(`there is no step ${name}`);
  return found;
}

const certificate = (daysAgo: number, daysLeft: number) =>
  issueCertificate({
    commonName: 'x',
    ca: true,
    notBefore: new Date(Date.now() - daysAgo * DAY),
    notAfter: new Date(Date.now() + daysLeft * DAY),
  }).cert;

test('certificates are renewed by kubeadm, with the settings that the cluster was made with', async () => {
  const box = await machineFolder(clean);
  await box.write('var/lib/fairlead-cluster/kubeadm.yaml', 'x');
  await box.write('etc/kubernetes/pki/apiserver.crt', certificate(1, 1));
  const context = box.context(SPEC);
  const actions = await stepOf('renew-certificates').run(context);
  expect(brief(actions)).toEqual([
    'claim /etc/kubernetes',
    `write ${context.folder}/old-fingerprint`,
    'kubeadm certs renew all --config /var/lib/fairlead-cluster/kubeadm.yaml',
  ]);
  await box.program('kubeadm', '');
  await box.perform(actions);
  await expect(stepOf('renew-certificates').verify(context)).rejects.toThrow('still the old one');
  await box.write('etc/kubernetes/pki/apiserver.crt', certificate(0, 2));
  await stepOf('renew-certificates').verify(context);
});

test.each([
  [1, 364, true],
  [200, 165, true],
  [300, 65, false],
  [30, -1, false],
])("the kubelet's own certificate, made %i days ago, %i days left: left alone %s", async (ago, left, alone) => {
  const box = await machineFolder(clean);
  await box.write('var/lib/kubelet/pki/kubelet-client-current.pem', certificate(ago, left));
  expect(await stepOf('kubelet-certificate').check(box.context(SPEC))).toBe(alone);
});

test('a kubelet without a certificate gets one', async () => {
  const box = await machineFolder(clean);
  expect(await stepOf('kubelet-certificate').check(box.context(SPEC))).toBe(false);
});

test('static pods are ended one after the other, etcd first and gently; the manifests are not touched', async () => {
  const box = await machineFolder(clean);
  await box.program(
    'ctr',
    `case "$3 $4" in
"containers ls") echo "$6" | sed -n 's/.*container.name"==/id-/p';;
"tasks ls") printf 'TASK PID STATUS\\nid-etcd 1 RUNNING\\nid-kube-apiserver 2 RUNNING\\nid-kube-scheduler 3 STOPPED\\n';;
esac`,
  );
  expect(brief(await restartStaticPods(box.machine))).toEqual([
    'ctr -n k8s.io tasks kill -s SIGTERM id-etcd',
    'wait etcd has ended',
    'ctr -n k8s.io tasks kill -s SIGKILL id-kube-apiserver',
    'wait kube-apiserver has ended',
  ]);
});
