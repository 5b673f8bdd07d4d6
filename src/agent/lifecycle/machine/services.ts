import type { ServiceChange, ServiceView } from './machine.ts';

/** Who keeps units running: systemd, or the agent itself. */
export type Services = ServiceView & {
  /** Rejects with CommandError or Error that has the last lines of the unit's log. */
  change(unit: string, change: ServiceChange, signal: AbortSignal): Promise<void>;
  /** Starts what is enabled and does not run. For systemd nothing: it does so itself. */
  resume(): Promise<void>;
  /** Stops watching; what runs goes on. */
  close(): void;
};

/** `kubelet` is `kubelet.service`. */
export function fullUnitName(unit: string): string {
  return /\.(service|socket|target|timer|mount|path|slice)$/.test(unit) ? unit : `${unit}.service`;
}
