import { vi } from 'vitest';

/** Puts the monotonic clock of this process forward, for what would take that long. Returns what puts it back. */
export function clockAhead(ms: number): () => void {
  const now = performance.now.bind(performance);
  const spy = vi.spyOn(performance, 'now').mockImplementation(() => now() + ms);
  return () => spy.mockRestore();
}
