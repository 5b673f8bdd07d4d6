import type { GuardResult } from '../schema.ts';
import type { Guard, GuardInput } from './guard.ts';

export type Evaluation = {
  results: GuardResult[];
  /** Refusals that count: all when not forced, else those that cannot be forced. */
  refused: GuardResult[];
  /** Refusals that `force` has skipped. */
  skipped: GuardResult[];
};

/** Asks every guard, also after the first refusal, so that the caller sees them all. A guard that fails refuses: what cannot be decided is refused. */
export async function evaluate(guards: readonly Guard[], input: GuardInput, force: boolean): Promise<Evaluation> {
  const results: GuardResult[] = [];
  const refused: GuardResult[] = [];
  const skipped: GuardResult[] = [];
  for (const guard of guards) {
    let result: GuardResult;
    try {
      const verdict = await guard.check(input);
      result = {
        guard: guard.name,
        passed: verdict.passed,
        ...(!guard.forceable && { forceable: false }),
        message: verdict.evidence,
        ...(verdict.remedy && { remedy: verdict.remedy }),
      };
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      result = {
        guard: guard.name,
        passed: false,
        message: `could not be checked: ${why}`,
        remedy: 'try again when the API server answers',
      };
    }
    results.push(result);
    if (!result.passed) (force && guard.forceable ? skipped : refused).push(result);
  }
  return { results, refused, skipped };
}
