import { X509Certificate } from 'node:crypto';
import type { ClusterSpec } from '../../../../kube/lifecycle.ts';
import type { MachineView } from '../../machine/machine.ts';
import type { Action, Step, StepContext } from '../../operations/step.ts';
import { waitNodeReady } from '../common/node-state.ts';
import { run, step } from '../common/run.ts';
import { kubeadmCertificates } from './certificates.ts';
import { waitControlPlane } from './init.ts';
import { ADMIN_CONF, KUBEADM_CONFIG, PKI } from './paths.ts';
import { waitServedCertificate } from './served-certificate.ts';
import { restartStaticPods } from './static-pods.ts';

const KUBELET_PEM = '/var/lib/kubelet/pki/kubelet-client-current.pem';
const oldFingerprint = (folder: string) => `${folder}/old-fingerprint`;

async function servingFingerprint(machine: MachineView): Promise<string> {
  const pem = await machine.read(`${PKI}/apiserver.crt`);
  return pem ? new X509Certificate(pem).fingerprint256 : '';
}

/** What comes after files of the control plane have changed, or have been put back. */
export async function takeUpFiles(context: StepContext): Promise<Action[]> {
  return [...(await restartStaticPods(context.machine)), waitServedCertificate, waitControlPlane()];
}

/** Does nothing on the way there; taken back, the control plane takes up the files that were put back below it. `name`: of the step. */
export function takeUpAgainStep(name: string): Step {
  return step({ name, run: async () => [], undo: takeUpFiles, afterCrash: 'repeat' });
}

/**
 * New certificates of the control plane, by kubeadm, signed by the same authorities. super-admin.conf is renewed with them where it still is. Begun anew after a crash: renewing
 * twice does no harm.
 */
function renewStep(): Step {
  return step({
    name: 'renew-certificates',
    run: async ({ machine, folder }) => [
      { kind: 'claim', paths: ['/etc/kubernetes'] },
      { kind: 'write', path: oldFingerprint(folder), content: await servingFingerprint(machine), mode: 0o600 },
      run(['kubeadm', 'certs', 'renew', 'all', ...((await machine.stat(KUBEADM_CONFIG)) ? ['--config', KUBEADM_CONFIG] : [])], {
        timeoutMs: 120_000,
      }),
    ],
    verify: async ({ machine, folder }) => {
      if ((await machine.read(oldFingerprint(folder))) === (await servingFingerprint(machine)))
        throw new Error('the certificate of the API server is still the old one');
    },
    afterCrash: 'repeat',
  });
}

/** The kubelet renews its own client certificate in the last third of its life. One that it has not renewed by then, or that has expired, is made anew by kubeadm, as at the install. */
function kubeletCertificateStep(): Step {
  return step({
    name: 'kubelet-certificate',
    check: async ({ machine }) => {
      const own = (await kubeadmCertificates(machine)).find(({ name }) => name === 'kubelet-client');
      if (!own?.rotationDate) return false;
      const [made, ends] = [Date.parse(own.rotationDate), Date.parse(own.expiryDate)];
      return ends - Date.now() > (ends - made) / 3;
    },
    run: async () => [
      { kind: 'claim', paths: ['/etc/kubernetes/kubelet.conf', '/var/lib/kubelet/pki'] },
      { kind: 'remove', path: '/etc/kubernetes/kubelet.conf' },
      { kind: 'remove', path: KUBELET_PEM },
      run(['kubeadm', 'init', 'phase', 'kubeconfig', 'kubelet', '--config', KUBEADM_CONFIG]),
      { kind: 'service', unit: 'kubelet', change: 'restart' },
    ],
    verify: async ({ machine }) => {
      if (!(await machine.stat('/etc/kubernetes/kubelet.conf'))) throw new Error('kubeadm made no kubelet.conf');
    },
  });
}

/** All certificates but the authorities', taken up by everything that uses them. */
export function rotateSteps(_spec: ClusterSpec): Step[] {
  return [
    takeUpAgainStep('take-up-old-certificates'),
    renewStep(),
    kubeletCertificateStep(),
    step({ name: 'restart-control-plane', run: takeUpFiles, afterCrash: 'repeat' }),
    step({
      name: 'rotated-node-ready',
      run: async () => [waitNodeReady(ADMIN_CONF, undefined, 300_000), waitControlPlane()],
      afterCrash: 'repeat',
    }),
  ];
}
