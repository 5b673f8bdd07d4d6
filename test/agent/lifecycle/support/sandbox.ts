import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Registry } from 'prom-client';
import type { ArtifactSource } from '../../../../src/agent/lifecycle/artifacts/source.ts';
import { type Lifecycle, type LifecycleSettings, startLifecycle } from '../../../../src/agent/lifecycle/lifecycle.ts';
import { localMachine } from '../../../../src/agent/lifecycle/machine/local-machine.ts';
import { lifecycleMetrics } from '../../../../src/agent/lifecycle/metrics.ts';
import type { LifecyclePhase } from '../../../../src/kube/lifecycle.ts';
import { waitUntil } from '../../../support/wait-until.ts';
import { littleDistribution } from './little-distribution.ts';

/** A machine in a folder: real files below `root`, real little programs, a boot id and sysctls of its own. */
export type Sandbox = {
  root: string;
  stateDir: string;
  registry: Registry;
  read(path: string): Promise<string>;
  write(path: string, content: string, mode?: number): Promise<void>;
  /** Makes a program do something else: a shell script. */
  program(name: string, script: string): Promise<void>;
  /** Starts the lifecycle as the agent does; again after `stop`, or without it, as after a crash. */
  start(settings?: Partial<LifecycleSettings> & { now?: () => Date }): Promise<Lifecycle>;
  errors: unknown[];
};

const NO_ARTIFACTS: ArtifactSource = {
  refresh: () => undefined,
  list: async () => [],
  fetch: async (relative) => {
    throw new Error(`there is no ${relative}`);
  },
};

export async function sandbox(clean: { after(undo: () => unknown): void }): Promise<Sandbox> {
  const root = await mkdtemp(join(tmpdir(), 'fairlead-lifecycle-'));
  clean.after(() => rm(root, { recursive: true, force: true }));
  const bin = join(root, 'bin');
  const errors: unknown[] = [];
  const box: Sandbox = {
    root,
    stateDir: join(root, 'var/lib/fairlead-agent'),
    registry: new Registry(),
    errors,
    read: (path) => readFile(join(root, path), 'utf8'),
    async write(path, content, mode = 0o644) {
      await mkdir(dirname(join(root, path)), { recursive: true });
      await writeFile(join(root, path), content);
      await chmod(join(root, path), mode);
    },
    program: (name, script) => box.write(`bin/${name}`, `#!/bin/sh\nset -e\nROOT=${root}\n${script}\n`, 0o755),
    async start({ now, ...settings } = {}) {
      const machine = await localMachine({ root, path: `${bin}:/usr/bin:/bin`, init: 'own', onError: (error) => errors.push(error) });
      box.registry.clear();
      const lifecycle = await startLifecycle({
        stateDir: box.stateDir,
        machine,
        metrics: lifecycleMetrics(box.registry),
        distributions: (type) => (type === 'kubeadm' ? littleDistribution : undefined),
        artifacts: () => NO_ARTIFACTS,
        settings: {
          artifacts: '',
          renewBeforeMs: 30 * 86_400_000,
          followKubelet: false,
          statusIntervalMs: 30,
          certificateIntervalMs: 30,
          driftIntervalMs: 30,
          ...settings,
        },
        onError: (error) => errors.push(error),
        ...(now && { now }),
      });
      clean.after(async () => {
        await lifecycle.stop().catch(() => undefined);
        machine.close();
      });
      return lifecycle;
    },
  };
  await box.write('proc/sys/kernel/random/boot_id', 'boot-1\n');
  await box.write('proc/sys/net/ipv4/ip_forward', '0\n');
  await box.program(
    'make-cluster',
    'sleep 0.1; echo "making $1"; mkdir -p $ROOT/etc/little; echo "$1" > $ROOT/etc/little/version; echo "$1" > $ROOT/etc/little/kubelet; echo ready > $ROOT/etc/little/node; echo "$2" > $ROOT/etc/little/certificate; echo "kubeconfig of $1" > $ROOT/etc/little/admin.conf',
  );
  await box.program(
    'unmake-cluster',
    'rm -rf $ROOT/etc/little/version $ROOT/etc/little/kubelet $ROOT/etc/little/node $ROOT/etc/little/certificate $ROOT/etc/little/admin.conf',
  );
  await box.program(
    'upgrade-cluster',
    'echo "upgrading to $1"; echo "$1" > $ROOT/etc/little/version; echo "$1" > $ROOT/etc/little/kubelet',
  );
  await box.program('renew-certificates', 'echo "$1" > $ROOT/etc/little/certificate');
  await box.program(
    'sysctl',
    'for pair in "$@"; do case "$pair" in *=*) echo "$pair" | cut -d= -f2- > $ROOT/proc/sys/$(echo "$pair" | cut -d= -f1 | tr . /);; esac; done',
  );
  await box.program('reboot', 'echo boot-2 > $ROOT/proc/sys/kernel/random/boot_id');
  return box;
}

/** Who asks, in tests. */
export const asking = (auditID: string, dryRun = false) => ({ requester: { user: 'jane', auditID }, dryRun });

export const SPEC = { clusterType: 'kubeadm', version: 'v1.35.4', networking: { podSubnet: '10.42.0.0/16', svcSubnet: '10.43.0.0/16' } };
export const cluster = (spec: object = {}) => ({
  apiVersion: 'v1alpha1',
  kind: 'Cluster',
  metadata: { owner: 'edge' },
  spec: { ...SPEC, ...spec },
});

/** Waits until no operation runs any more and the phase is this. */
export async function settled(lifecycle: Lifecycle, phase: LifecyclePhase): Promise<void> {
  let last = '';
  try {
    await waitUntil(
      async () => {
        const { status } = await lifecycle.service.get();
        last = JSON.stringify(status);
        return status.phase === phase && status.operation?.phase !== 'Running' && status.operation?.phase !== 'Undoing';
      },
      `the phase ${phase}`,
      30_000,
    );
  } catch (error) {
    throw new Error(`${error instanceof Error ? error.message : String(error)}: ${last}`);
  }
}

/** A sandbox with a cluster in it. */
export async function installed(
  clean: { after(undo: () => unknown): void },
  settings: Parameters<Sandbox['start']>[0] = {},
  spec: object = {},
) {
  const box = await sandbox(clean);
  const lifecycle = await box.start(settings);
  await lifecycle.service.create(cluster(spec), asking('install'));
  await settled(lifecycle, 'Provisioned');
  return { box, lifecycle, service: lifecycle.service };
}
