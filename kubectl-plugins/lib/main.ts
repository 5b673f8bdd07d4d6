import { errorText } from './errors.ts';
import { EXIT } from './exit.ts';

/** Runs a plugin: what `work` returns becomes the exit code. What nothing else caught is told in one line. */
export function main(work: (args: string[]) => Promise<number>): void {
  work(process.argv.slice(2)).then(
    (code) => {
      process.exitCode = code;
    },
    (error: unknown) => {
      process.stderr.write(`error: ${errorText(error)}\n`);
      process.exitCode = EXIT.error;
    },
  );
}
