import type { ServingCertificate, ServingPair } from './serving.ts';

/** A serving certificate that its owner replaces. */
export function pairHolder(first: ServingPair): ServingCertificate & { replace(pair: ServingPair): void } {
  const listeners = new Set<(pair: ServingPair) => void>();
  let pair = first;
  return {
    current: () => pair,
    onChange(listener, signal) {
      if (signal.aborted) return;
      listeners.add(listener);
      signal.addEventListener('abort', () => listeners.delete(listener), { once: true });
    },
    replace(next) {
      pair = next;
      for (const listener of listeners) listener(next);
    },
  };
}
