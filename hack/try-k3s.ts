import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { artifactSource } from '../src/agent/lifecycle/artifacts/artifact-source.ts';
import { k3sDistribution } from '../src/agent/lifecycle/distributions/k3s/k3s.ts';
import { localMachine } from '../src/agent/lifecycle/machine/local-machine.ts';
import { operationManager } from '../src/agent/lifecycle/operations/manager.ts';
import type { OperationRequest } from '../src/agent/lifecycle/operations/request.ts';
import type { Step } from '../src/agent/lifecycle/operations/step.ts';
import type { ClusterSpec, LifecycleOperation, OperationType } from '../src/kube/lifecycle.ts';

// The body of hack/try-k3s.sh: install, patch, rotate, upgrade, delete, with the real k3s. Stops at the first operation that fails.
const [from = '', to = ''] = process.argv.slice(2);
const { K3S_INSTALLER_URL: installerURL, K3S_RELEASES_URL: releasesURL, K3S_ARTIFACTS: source = '' } = process.env;
const distribution = k3sDistribution({ ...(installerURL && { installerURL }), ...(releasesURL && { releasesURL }) });
const machine = await localMachine();
const stateDir = mkdtempSync(join(tmpdir(), 'fairlead-try-k3s-'));
const lifetime = new AbortController();

function stepsOf({ type, spec, before }: OperationRequest): Step[] {
  if (type === 'Install') return distribution.install(spec);
  if (type === 'Upgrade') return distribution.upgrade(spec, before ?? spec);
  if (type === 'Patch') return distribution.patch(spec, before ?? spec);
  return type === 'RotateCertificates' ? distribution.rotate(spec) : distribution.beforeDelete(spec);
}

const manager = operationManager({
  stateDir,
  machine,
  artifacts: artifactSource(source),
  steps: stepsOf,
  onError: (error) => process.stderr.write(`${String(error)}\n`),
});
let ended: (operation: LifecycleOperation) => void = () => undefined;
manager.onEnd(async (_request, operation) => ended(operation));
await manager.start();

async function follow(): Promise<void> {
  for await (const line of manager.log({ follow: true, signal: lifetime.signal })) process.stdout.write(`${line}\n`);
}
const following = follow().catch(() => undefined);

async function run(type: OperationType, spec: ClusterSpec, before?: ClusterSpec): Promise<void> {
  const end = new Promise<LifecycleOperation>((resolve) => {
    ended = resolve;
  });
  const requester = { user: 'hack/try-k3s.sh', auditID: '' };
  const started = performance.now();
  // The one before is told to have ended a moment before another may begin.
  while (!(await manager.begin({ type, spec, before, requester, version: spec.version ?? '' }).then(Boolean, () => false))) {
    if (performance.now() - started > 10_000) throw new Error(`${type} cannot begin`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const { phase, message = '' } = await end;
  process.stdout.write(`== ${type}: ${phase} after ${Math.round((performance.now() - started) / 1000)} s ${message}\n`);
  if (phase !== 'Succeeded') throw new Error(`${type} failed; state and log stand in ${stateDir}`);
}

try {
  const first = distribution.defaults({ clusterType: 'k3s', version: from }, await machine.facts());
  const problems = distribution.validate(first, await machine.facts());
  if (problems.length > 0) throw new Error(problems.map(({ message }) => message).join('; '));
  await run('Install', first);
  process.stdout.write(`${JSON.stringify(await distribution.observe(machine, first, lifetime.signal))}\n`);
  const named = { ...first, apiServer: { certSANs: ['k3s.example.com'] } };
  await run('Patch', named, first);
  await run('RotateCertificates', named);
  const newer = { ...named, version: to };
  await run('Upgrade', newer, named);
  process.stdout.write(`${JSON.stringify(await distribution.certificates(machine))}\n`);
  await run('Delete', newer);
} finally {
  lifetime.abort();
  await manager.stop();
  await following;
  machine.close();
}
