import { createHash } from 'node:crypto';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { StepError } from '../operations/step.ts';

/**
 * Writes `content` to `to`, with `mode`, if its SHA-256 is `sum`, and resolves with that; otherwise nothing is left of it, and a StepError says what `name` should have been and was.
 * A piece is not used any more when the next one is asked for.
 */
export async function writeVerified(
  content: AsyncIterable<Uint8Array>,
  given: { to: string; mode: number; sum: string; name: string },
): Promise<string> {
  const { to, mode, sum, name } = given;
  await mkdir(dirname(to), { recursive: true });
  const temporary = `${to}.part`;
  try {
    await rm(temporary, { force: true });
    const handle = await open(temporary, 'wx', 0o600);
    const hash = createHash('sha256');
    try {
      for await (const piece of content) {
        hash.update(piece);
        await handle.writeFile(piece);
      }
      const found = hash.digest('hex');
      if (found !== sum) throw new StepError(`artifact ${name} is not what it should be: its SHA-256 is ${found}, and should be ${sum}`);
      await handle.chmod(mode);
    } finally {
      await handle.close();
    }
    await rename(temporary, to);
    return sum;
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}
