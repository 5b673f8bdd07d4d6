import type { Command } from '../../machine/machine.ts';

/** A kubectl command as the cluster's administrator. Its cache goes nowhere that stays. `input` for `-f -`. */
export function kubectl(
  kubeconfig: string,
  argv: readonly string[],
  options: { program?: readonly string[]; input?: string; timeoutMs?: number } = {},
): Command {
  const { program = ['kubectl'], input, timeoutMs = 60_000 } = options;
  return {
    argv: [...program, '--kubeconfig', kubeconfig, ...argv],
    env: { KUBECACHEDIR: '/run/fairlead-kubectl' },
    timeoutMs,
    ...(input !== undefined && { input }),
  };
}
