import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'vitest';

/** A new folder that is removed when the test ends. */
export async function folder({ onTestFinished }: Pick<TestContext, 'onTestFinished'>): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'fairlead-audit-'));
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}
