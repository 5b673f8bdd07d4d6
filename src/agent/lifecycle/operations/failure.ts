import { CommandError } from '../machine/machine.ts';
import { commandText } from './actions.ts';
import { StepError } from './step.ts';

const LONGEST = 4_000;

/** What is told of an error: its words, and what a person can type. */
export function failureOf(error: unknown, redact: (text: string) => string): { message: string; nextCommand?: string } {
  const text = redact(error instanceof Error ? error.message : String(error));
  // The end says why.
  const message = text.length > LONGEST ? `...${text.slice(-LONGEST)}` : text;
  const next = error instanceof StepError ? error.nextCommand : undefined;
  return { message, ...(next !== undefined && { nextCommand: redact(next) }) };
}

/** The same for undoing: a command that failed is what a person tries next. */
export function undoFailureOf(error: unknown, redact: (text: string) => string): { message: string; nextCommand?: string } {
  const failure = failureOf(error, redact);
  if (failure.nextCommand !== undefined || !(error instanceof CommandError) || error.argv.includes('(arguments hidden)')) return failure;
  return { ...failure, nextCommand: redact(commandText({ argv: error.argv })) };
}
