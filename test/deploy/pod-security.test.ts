import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { at, buildOverlay, type Manifest, ofKind, one, overlays, root } from './kustomize.ts';

type SecurityContext = {
  runAsNonRoot?: boolean;
  runAsUser?: number;
  privileged?: boolean;
  allowPrivilegeEscalation?: boolean;
  readOnlyRootFilesystem?: boolean;
  capabilities?: { drop?: string[]; add?: string[] };
  seccompProfile?: { type: string };
  procMount?: string;
};
type PodSpec = {
  hostNetwork?: boolean;
  hostPID?: boolean;
  hostIPC?: boolean;
  hostUsers?: boolean;
  securityContext?: SecurityContext & { sysctls?: object[] };
  containers: { name: string; securityContext?: SecurityContext; ports?: { hostPort?: number }[] }[];
  initContainers?: object[];
  volumes?: object[];
};

/** Faults of a pod by the profile "restricted" of Pod Security Standards, and by our own stricter rules: uid, read-only root, no writable volumes. */
function faults(pod: PodSpec): string[] {
  const found: string[] = [];
  const fault = (bad: boolean, text: string) => {
    if (bad) found.push(text);
  };
  const allowedVolumes = ['configMap', 'secret', 'projected', 'downwardAPI'];
  fault(Boolean(pod.hostNetwork || pod.hostPID || pod.hostIPC), 'uses namespaces of the host');
  fault((pod.securityContext?.sysctls ?? []).length > 0, 'sets sysctls');
  for (const volume of pod.volumes ?? []) {
    const kinds = Object.keys(volume).filter((key) => key !== 'name');
    fault(!kinds.every((kind) => allowedVolumes.includes(kind)), `volume of kind ${kinds.join()}`);
  }
  fault((pod.initContainers ?? []).length > 0, 'has init containers that are not checked here');
  for (const { name, securityContext: own = {}, ports = [] } of pod.containers) {
    const merged = { ...pod.securityContext, ...own };
    fault(merged.runAsNonRoot !== true, `${name} may run as root`);
    fault(!((merged.runAsUser ?? 0) >= 1000), `${name} has uid ${merged.runAsUser}`);
    fault(own.privileged === true, `${name} is privileged`);
    fault(own.allowPrivilegeEscalation !== false, `${name} may gain privileges`);
    fault(own.readOnlyRootFilesystem !== true, `${name} can write to its root file system`);
    fault(own.capabilities?.drop?.join() !== 'ALL' || (own.capabilities.add ?? []).length > 0, `${name} has capabilities`);
    fault(merged.seccompProfile?.type !== 'RuntimeDefault', `${name} has no seccomp profile`);
    fault(own.procMount !== undefined, `${name} changes /proc`);
    fault(
      ports.some((port) => port.hostPort !== undefined),
      `${name} takes a port of the host`,
    );
  }
  return found;
}

const podOf = (deployment: Manifest) => at<PodSpec>(deployment, 'spec.template.spec');

/** Folders of deploy/ with pods, or at least the namespace for them. */
const folders = [...overlays.map((overlay) => [overlay, 'fairlead-system'] as const), ['agent', 'clusternet-system'] as const];

describe('R67: container escape surface', () => {
  test.each(folders)('R67: pods of %s meet the restricted profile', (overlay) => {
    const deployments = ofKind(buildOverlay(overlay), 'Deployment');
    expect(deployments).toHaveLength(overlay === 'overlays/out-of-cluster' ? 0 : 1);
    for (const deployment of deployments) expect(faults(podOf(deployment))).toEqual([]);
    const others = ['Pod', 'DaemonSet', 'StatefulSet', 'Job', 'CronJob'].flatMap((kind) => ofKind(buildOverlay(overlay), kind));
    expect(others).toEqual([]);
  });

  test.each(folders)('R67: the namespace of %s enforces the restricted profile', (overlay, namespace) => {
    const { labels } = one(buildOverlay(overlay), 'Namespace', namespace).metadata;
    for (const mode of ['enforce', 'audit', 'warn']) expect(labels?.[`pod-security.kubernetes.io/${mode}`]).toBe('restricted');
  });

  test('R67: each rule of the check can refuse', () => {
    const good = podOf(one(buildOverlay('hub'), 'Deployment', 'fairlead-hub'));
    const [container] = good.containers;
    if (!container) throw new Error('no container');
    const own = container.securityContext ?? {};
    const changed = (securityContext: SecurityContext) => ({ ...good, containers: [{ ...container, securityContext }] });
    const bad: PodSpec[] = [
      { ...good, hostNetwork: true },
      { ...good, hostPID: true },
      { ...good, volumes: [{ name: 'host', hostPath: { path: '/' } }] },
      { ...good, initContainers: [{}] },
      { ...good, securityContext: { ...good.securityContext, sysctls: [{}] } },
      changed({ ...own, runAsNonRoot: false }),
      changed({ ...own, runAsUser: 0 }),
      changed({ ...own, privileged: true }),
      changed({ ...own, allowPrivilegeEscalation: true }),
      changed({ ...own, readOnlyRootFilesystem: false }),
      changed({ ...own, capabilities: { drop: ['ALL'], add: ['SYS_ADMIN'] } }),
      changed({ ...own, capabilities: {} }),
      changed({ ...own, seccompProfile: { type: 'Unconfined' } }),
      changed({ ...own, procMount: 'Unmasked' }),
      { ...good, containers: [{ ...container, ports: [{ hostPort: 10250 }] }] },
    ];
    for (const pod of bad) expect(faults(pod)).toHaveLength(1);
  });

  test.each([
    ['hub', 'fairlead-hub'],
    ['agent', 'fairlead-agent'],
  ])('R67: in %s only the program itself mounts a token, and has limits', (folder, name) => {
    const objects = buildOverlay(folder);
    expect(at(one(objects, 'ServiceAccount', name), 'automountServiceAccountToken')).toBe(false);
    const pod = at<PodSpec>(one(objects, 'Deployment', name), 'spec.template.spec');
    expect(at(pod, 'automountServiceAccountToken')).toBe(true);
    expect(at(pod.containers[0], 'resources.limits.memory')).toBe('512Mi');
  });

  test('R67: the image ends without a shell, as another user than root, and gets no file that is not asked for', () => {
    const stages = readFileSync(join(root, 'Dockerfile'), 'utf8').split(/^(?=FROM )/m);
    const last = stages.at(-1) ?? '';
    const bases = Object.fromEntries([...(stages[0] ?? '').matchAll(/^ARG (\w+)=(\S+)$/gm)].map(([, name, value]) => [name, value]));
    const base = bases[/^FROM \$\{(\w+)\}/.exec(last)?.[1] ?? ''];
    expect(base).toMatch(/\/distroless\/cc-debian\d+:nonroot$/);
    // RUN needs a shell in the stage.
    expect(last).not.toMatch(/^RUN /m);
    const pod = podOf(one(buildOverlay('hub'), 'Deployment', 'fairlead-hub'));
    expect(/^USER (\S+)$/m.exec(last)?.[1]).toBe(`${pod.securityContext?.runAsUser}:${at(pod, 'securityContext.runAsGroup')}`);
    expect(/^ENTRYPOINT (.*)$/m.exec(last)?.[1]).toMatch(/^\["\/usr\/local\/bin\/node", /);
    const ignored = readFileSync(join(root, '.dockerignore'), 'utf8')
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'));
    expect(ignored[0]).toBe('*');
    const copied = [...stages.join('').matchAll(/^COPY (?!--from)(.*) \S+$/gm)].flatMap(([, files = '']) => files.split(' '));
    expect(ignored.slice(1).sort()).toEqual(copied.map((file) => `!${file}`).sort());
  });
});
