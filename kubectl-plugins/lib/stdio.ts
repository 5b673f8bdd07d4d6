/** Where the commands write. stdout carries results, stderr everything else. */
export type Stdio = {
  out(text: string): void;
  err(text: string): void;
  /** Whether stderr is a terminal on which lines can be redrawn. */
  readonly live: boolean;
  /** Columns and rows of that terminal. */
  size(): { columns: number; rows: number };
  /** `text` in a colour when stderr shows colours. */
  paint(colour: keyof typeof COLOURS, text: string): string;
  /** Whether somebody can be asked on stdin. */
  readonly interactive: boolean;
};

const COLOURS = { red: '31', green: '32', yellow: '33', dim: '2' } as const;

/** The process's own streams. NO_COLOR (https://no-color.org) and TERM=dumb are honoured. */
export function processStdio(env: NodeJS.ProcessEnv): Stdio {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error) => {
      // The reader left (`| head`): nobody is there to be told anything.
      if ('code' in error && error.code === 'EPIPE') process.exit(stream === process.stdout ? 0 : 1);
      throw error;
    });
  }
  const live = process.stderr.isTTY === true && env['TERM'] !== 'dumb';
  const colours = live && !env['NO_COLOR'];
  return {
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    live,
    size: () => ({ columns: process.stderr.columns || 80, rows: process.stderr.rows || 24 }),
    paint: (colour, text) => (colours ? `\u001b[${COLOURS[colour]}m${text}\u001b[0m` : text),
    interactive: process.stdin.isTTY === true,
  };
}
