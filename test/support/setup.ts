import { vi } from 'vitest';

// Tests wait for conditions, and a busy machine takes longer than vitest's one second.
const { waitFor } = vi;
const timeout = 20_000;
vi.waitFor = (callback, options) => waitFor(callback, typeof options === 'number' ? options : { timeout, ...options });
