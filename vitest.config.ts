import { defineConfig } from 'vitest/config';

/** Where whole machines boot. */
const machine = ['e2e/machine/**/*.test.ts', 'e2e/lab/machine.test.ts'];
const e2e = {
  environment: 'node',
  pool: 'forks',
  // Each file has a control plane of its own.
  fileParallelism: false,
  testTimeout: 180_000,
  hookTimeout: 180_000,
} as const;

// vitest takes its configuration from a default export.
// biome-ignore lint/style/noDefaultExport: see above
export default defineConfig({
  test: {
    teardownTimeout: 60_000,
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          setupFiles: ['test/support/setup.ts'],
          environment: 'node',
          pool: 'forks',
          maxWorkers: 2,
          // No test waits for time; a machine that does other work beside it can be slow.
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          ...e2e,
          name: 'e2e',
          include: ['e2e/**/*.test.ts'],
          exclude: machine,
        },
      },
      { test: { ...e2e, name: 'machine', include: machine } },
    ],
  },
});
