import { API } from './api.ts';
import { EXIT, type ExitCode, ExitError } from './exit.ts';
import { plainText } from './plain-text.ts';
import type { Session } from './session.ts';

/** Prints a text of the hub (`path` below its API) as it comes; with `follow` until Ctrl-C. */
export async function streamText(session: Session, path: string, follow: boolean): Promise<ExitCode> {
  try {
    const response = await session.api().open({
      path: `${API}/${path}`,
      query: { follow: follow ? 'true' : undefined },
      headers: { accept: 'text/plain, */*' },
      signal: session.signal,
    });
    // A character may lie on the border of two parts.
    response.setEncoding('utf8');
    for await (const part of response) session.stdio.out(plainText(String(part)));
    return EXIT.done;
  } catch (error) {
    if (session.signal.aborted && follow) return EXIT.done;
    if (error instanceof Error && 'code' in error && error.code === 'ECONNRESET') {
      throw new ExitError(EXIT.error, 'the connection was cut; repeat the command to go on');
    }
    throw error;
  }
}
