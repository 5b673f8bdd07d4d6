/** Which files a room may import besides its own. `types` may be reached by `import type` only. */
export type Room = {
  /** Path of the folder. A file belongs to the room with the longest path that holds it. */
  path: string;
  /** Folders or files. */
  may: readonly string[];
  types?: readonly string[];
  /** True: packages of devDependencies too. */
  development?: boolean;
};

const workingRoom = (path: string, ...more: string[]): Room => ({
  path,
  may: ['src/kube', 'src/hub/http', ...more],
  types: ['src/hub/auth/user.ts'],
});

/** The rooms of the design: hub and agent never meet, and the hub's working rooms meet only in the files at its root. */
export const rooms: readonly Room[] = [
  { path: 'src/kube', may: ['package.json'] },
  { path: 'src/tunnel', may: ['src/kube'] },
  { path: 'src/agent', may: ['src/kube', 'src/tunnel'] },
  { path: 'src/hub', may: ['src/kube', 'src/tunnel'] },
  { path: 'src/hub/http', may: ['src/kube', 'src/hub/certificates'], types: ['src/hub/auth'] },
  { path: 'src/hub/auth', may: ['src/kube', 'src/hub/http', 'src/hub/certificates'] },
  { path: 'src/hub/audit', may: ['src/kube', 'src/hub/http'], types: ['src/hub/auth'] },
  { path: 'src/hub/discovery', may: ['src/kube', 'src/hub/http'], types: ['src/hub/auth/user.ts'] },
  { path: 'src/hub/certificates', may: ['src/kube', 'src/hub/http'] },
  workingRoom('src/hub/nodes'),
  { ...workingRoom('src/hub/clusters', 'src/tunnel/seal.ts'), types: ['src/hub/auth/user.ts', 'src/hub/sockets/clusters.ts'] },
  workingRoom('src/hub/sockets', 'src/tunnel', 'src/hub/certificates'),
  workingRoom('src/hub/lifecycle', 'src/tunnel'),
  { path: 'kubectl-plugins', may: ['src/kube'], types: ['src/hub/nodes/schema.ts', 'src/hub/clusters/schema.ts', 'src/hub/http/meta.ts'] },
  { path: 'e2e/lab', may: ['src/hub/certificates/x509.ts', 'src/kube/node-flags.ts'], development: true },
  { path: 'e2e', may: ['e2e/lab', 'src', 'test', 'hack/release', 'hack/images'], development: true },
  { path: 'test', may: ['src', 'kubectl-plugins', 'hack', 'e2e/lab'], development: true },
  { path: 'bench', may: ['src', 'e2e/lab', 'e2e/machine', 'test'], development: true },
  { path: 'hack', may: ['src', 'e2e/lab'], development: true },
];

/** Rooms whose files may import every room below them: the root of the hub puts the rooms together. */
export const composers: readonly string[] = ['src/hub'];
