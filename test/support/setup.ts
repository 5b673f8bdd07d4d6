import fc from 'fast-check';
import { vi } from 'vitest';
import { seed } from './counts.ts';

fc.configureGlobal({ seed });

// Tests wait for conditions, and a busy machine takes longer than vitest's one second.
const { waitFor } = vi;
const timeout = 20_000;
vi.waitFor = (callback, options) => waitFor(callback, typeof options === 'number' ? options : { timeout, ...options });
