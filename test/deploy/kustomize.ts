import { execFileSync } from 'node:child_process';
import { mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseAllDocuments, stringify } from 'yaml';

export const root = fileURLToPath(new URL('../..', import.meta.url));
export const deploy = join(root, 'deploy');

export const overlays = ['hub', 'overlays/eks-irsa', 'overlays/tke', 'overlays/static-secrets', 'overlays/out-of-cluster'] as const;
export const components = ['medik8s', 'servicemonitor', 'alerts', 'dashboard', 'instance-metadata', 'direct'] as const;

/** An object as kustomize wrote it; a test looks at it with `at`. */
export type Manifest = {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string; labels?: Record<string, string>; annotations?: Record<string, string> };
};

let kubectl: string | undefined;

/** Path of the real kubectl, from the tools of the end-to-end tests. */
export function kubectlPath(): string {
  kubectl ??= join(execFileSync(join(root, 'hack/tools.sh'), ['kubectl'], { encoding: 'utf8' }).trim(), 'kubectl');
  return kubectl;
}

const built = new Map<string, Manifest[]>();

/** What `kubectl kustomize` makes of a folder. Throws with kubectl's message. */
export function build(folder: string): Manifest[] {
  const known = built.get(folder);
  if (known) return known;
  const text = execFileSync(kubectlPath(), ['kustomize', folder], { encoding: 'utf8', stdio: 'pipe', maxBuffer: 16 * 1024 * 1024 });
  const objects = parseAllDocuments(text).map((document) => document.toJS({ maxAliasCount: 0 }) as Manifest);
  built.set(folder, objects);
  return objects;
}

export const buildOverlay = (name: string): Manifest[] => build(join(deploy, name));

/** An overlay together with components, as a user would combine them; a component may also be a path from deploy/components. */
export function buildWith(overlay: string, parts: readonly string[], further: { patches?: object[] } = {}): Manifest[] {
  const key = `${overlay} with ${parts.join()} ${JSON.stringify(further)}`;
  const known = built.get(key);
  if (known) return known;
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'fairlead-combined-')));
  try {
    const kustomization = {
      apiVersion: 'kustomize.config.k8s.io/v1beta1',
      kind: 'Kustomization',
      resources: [relative(folder, join(deploy, overlay))],
      components: parts.map((part) => relative(folder, join(deploy, 'components', part))),
      ...further,
    };
    writeFileSync(join(folder, 'kustomization.yaml'), stringify(kustomization));
    const objects = build(folder);
    built.set(key, objects);
    return objects;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export const ofKind = (objects: readonly Manifest[], kind: string): Manifest[] => objects.filter((object) => object.kind === kind);

/** The one object of this kind and name. Throws when there is none. */
export function one(objects: readonly Manifest[], kind: string, name: string): Manifest {
  const [found, ...more] = objects.filter((object) => object.kind === kind && object.metadata.name === name);
  if (!found || more.length > 0) throw new Error(`there are ${found ? more.length + 1 : 0} objects ${kind}/${name}`);
  return found;
}

/** The value at a path such as `spec.template.spec`; undefined when there is none. */
export function at<T>(value: unknown, path: string): T {
  let found = value;
  for (const key of path.split('.')) found = typeof found === 'object' && found !== null ? Reflect.get(found, key) : undefined;
  return found as T;
}
