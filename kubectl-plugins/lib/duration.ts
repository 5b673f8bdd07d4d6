import { UsageError } from './exit.ts';

const UNITS: Record<string, number> = { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/**
 * Milliseconds of a duration as Go writes it: `90s`, `1h30m`, `1.5h`, `0`. With `bareSeconds` a number without a unit counts as seconds.
 * Throws UsageError that names `flag`.
 */
export function parseDuration(text: string, flag: string, bareSeconds = false): number {
  if (/^\d+$/.test(text) && (bareSeconds || Number(text) === 0)) return Number(text) * 1000;
  if (!/^(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+$/.test(text)) {
    throw new UsageError(`--${flag} takes a duration such as 90s, 10m or 1h30m, not "${text}"`);
  }
  let total = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)) total += Number(amount) * (UNITS[unit ?? ''] ?? 0);
  return total;
}

/** `8s`, `2m8s`, `1h2m`, `3d4h`: two units at most, from milliseconds. */
export function shortDuration(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return seconds % 60 ? `${minutes}m${seconds % 60}s` : `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 ? `${hours}h${minutes % 60}m` : `${hours}h`;
  return hours % 24 ? `${Math.floor(hours / 24)}d${hours % 24}h` : `${Math.floor(hours / 24)}d`;
}

/** `just now`, `12 s ago`, `5 min ago`, `3 h ago`, `3 d ago`. */
export function ago(time: string, now: number): string {
  const seconds = Math.floor((now - Date.parse(time)) / 1000);
  if (!Number.isFinite(seconds) || seconds < 1) return 'just now';
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}
