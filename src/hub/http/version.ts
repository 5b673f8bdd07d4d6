/** What the build knows of itself. `gitVersion` is the version of the package with a leading `v`. */
export type BuildInfo = { gitVersion: string; gitCommit?: string; buildDate?: string };

/** `version.Info` of Kubernetes, the answer of `/version`. The Go toolchain's fields say what runs instead. */
export type VersionInfo = {
  major: string;
  minor: string;
  gitVersion: string;
  gitCommit: string;
  gitTreeState: string;
  buildDate: string;
  goVersion: string;
  compiler: string;
  platform: string;
};

const ARCHITECTURES: Record<string, string> = { x64: 'amd64', ia32: '386' };

/** The answer of `/version`. Throws when `gitVersion` is not of the form `v1.2.3` with anything behind. */
export function versionInfo({ gitVersion, gitCommit = '', buildDate = '' }: BuildInfo): VersionInfo {
  const [, major, minor] = /^v(\d{1,9})\.(\d{1,9})\./.exec(gitVersion) ?? [];
  if (major === undefined || minor === undefined) throw new Error(`not a version: ${gitVersion}`);
  return {
    major,
    minor,
    gitVersion,
    gitCommit,
    gitTreeState: '',
    buildDate,
    goVersion: '',
    compiler: `node ${process.version}`,
    platform: `${process.platform}/${ARCHITECTURES[process.arch] ?? process.arch}`,
  };
}
