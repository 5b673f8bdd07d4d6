/** A command with its arguments; nothing goes through a shell. */
export type Command = {
  argv: readonly string[];
  env?: Readonly<Record<string, string>>;
  input?: string;
  /** Milliseconds; the process group is killed then. */
  timeoutMs: number;
  /** Exit codes that are well; default only 0. */
  allowExit?: readonly number[];
  /** Do not log its output: it holds secrets. */
  secret?: boolean;
};

export type CommandResult = { code: number; stdout: string; stderr: string };

/** The command ended with a code that is not well, could not be started, or ran out of time. `message` has the command's last lines, without secrets. */
export class CommandError extends Error {
  readonly argv: readonly string[];
  /** undefined: not started, or killed. */
  readonly code: number | undefined;
  readonly output: string;

  constructor(argv: readonly string[], code: number | undefined, output: string, why?: string) {
    super(`${argv.join(' ')}: ${why ?? `exit code ${code}`}${output ? `: ${output}` : ''}`);
    this.name = 'CommandError';
    this.argv = argv;
    this.code = code;
    this.output = output;
  }
}

/** What is known of a file; undefined when there is none. */
export type FileInfo = { type: 'file' | 'directory' | 'link'; mode: number; size: number };

/** Reading the machine; nothing here changes it. Paths are absolute. */
export type MachineView = {
  /** Text of a file; undefined when there is none. */
  read(path: string): Promise<string | undefined>;
  stat(path: string): Promise<FileInfo | undefined>;
  list(path: string): Promise<string[]>;
  /** SHA-256 of a file, hex; undefined when there is none. */
  digest(path: string): Promise<string | undefined>;
  /** Runs a command that only reads. Rejects with CommandError. */
  inspect(command: Command): Promise<CommandResult>;
  /** Path of a program in the machine's PATH. */
  which(program: string): Promise<string | undefined>;
  services: ServiceView;
  facts(): Promise<Facts>;
};

export type ServiceView = {
  /** Whether there is a unit of this name. */
  exists(unit: string): Promise<boolean>;
  active(unit: string): Promise<boolean>;
  enabled(unit: string): Promise<boolean>;
  /** Last lines of its log. */
  lastLog(unit: string, lines: number): Promise<string>;
};

/** What units are changed by. */
export type ServiceChange = 'start' | 'stop' | 'restart' | 'enable' | 'disable' | 'daemon-reload';

/** A machine that steps change, by actions only. */
export type Machine = MachineView & {
  run(command: Command, output: (line: string) => void, signal: AbortSignal): Promise<CommandResult>;
  /** Writes whole or not at all: temporary file, fsync, rename, fsync of the folder. Makes the folders. */
  write(path: string, content: string | Uint8Array, mode: number): Promise<void>;
  /** A file or a whole tree; no error when there is none. */
  remove(path: string): Promise<void>;
  /** Copies a file or a tree with modes, owners and links. */
  copy(from: string, to: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  changeService(unit: string, change: ServiceChange, signal: AbortSignal): Promise<void>;
};

/** What the machine is, asked once per operation. */
export type Facts = {
  hostname: string;
  architecture: 'amd64' | 'arm64';
  /** ID and VERSION_ID of /etc/os-release. */
  os: { id: string; version: string };
  cpus: number;
  memoryBytes: number;
  swap: boolean;
  cgroup: 1 | 2;
  /** CAP_SYS_RESOURCE in the bounding and effective set. */
  mayRaiseLimits: boolean;
  /** Addresses of the interface of the default route, or else of any that is not loopback; IPv4 first. */
  addresses: string[];
  initSystem: 'systemd' | 'none';
  packageManager: 'apt' | 'dnf' | 'none';
  bootID: string;
};
