import { type Api, api } from './api.ts';
import { connect } from './connection.ts';
import { parseDuration } from './duration.ts';
import type { ParsedFlags } from './flags.ts';
import { resolveAccess } from './kubeconfig.ts';
import type { Stdio } from './stdio.ts';
import { version } from './version.ts';

/** What every command gets. */
export type Session = {
  flags: ParsedFlags;
  stdio: Stdio;
  /** Connects on the first call. */
  api(): Api;
  /** Fires on Ctrl-C. */
  signal: AbortSignal;
  /** The flags that a command shown to the user needs in order to reach the same cluster, with a leading space. */
  sameCluster: string;
};

/** A session, for whoever opened it. */
export type OpenSession = Session & {
  /** Whether the server sent a warning. */
  warned(): boolean;
  close(): void;
};

/** A session for one command line of `plugin`. Connects only when the API is asked for. */
export function openSession(plugin: string, flags: ParsedFlags, stdio: Stdio, signal: AbortSignal): OpenSession {
  let opened: Api | undefined;
  return {
    flags,
    stdio,
    signal,
    sameCluster: sameCluster(flags),
    api() {
      opened ??= openApi(plugin, flags, stdio, signal);
      return opened;
    },
    warned: () => (opened?.warnings() ?? 0) > 0,
    close: () => opened?.close(),
  };
}

function openApi(plugin: string, flags: ParsedFlags, stdio: Stdio, signal: AbortSignal): Api {
  const access = resolveAccess(flags, process.env);
  const loud = Number(flags.text('v') ?? 0) >= 6;
  const connection = connect(access, {
    interactive: stdio.interactive,
    userAgent: `kubectl-${plugin}/${version} (${process.platform}/${process.arch})`,
    signal,
    ...(loud && { trace: (line: string) => stdio.err(`${line}\n`) }),
  });
  const timeoutMs = parseDuration(flags.text('request-timeout') || '0', 'request-timeout', true);
  return api(connection, timeoutMs, (text) => stdio.err(`${stdio.paint('yellow', 'Warning:')} ${text}\n`));
}

function sameCluster(flags: ParsedFlags): string {
  return ['kubeconfig', 'context', 'cluster', 'user']
    .flatMap((name) => {
      const value = flags.text(name);
      return value ? [` --${name}=${/^[\w@%+=:,./-]+$/.test(value) ? value : `'${value.replaceAll("'", "'\\''")}'`}`] : [];
    })
    .join('');
}
