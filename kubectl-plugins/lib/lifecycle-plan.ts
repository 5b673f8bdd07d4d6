import type { PlannedAction } from '../../src/kube/lifecycle.ts';
import type { Plan } from './lifecycle.ts';
import { plainText } from './plain-text.ts';

/** A plan as a person reads it: the steps, and below each its commands and files. */
export function planText(plan: Plan): string {
  const lines = [`${plan.operation}: ${plan.actions.length} actions (server dry run, nothing was changed)`];
  let step = '';
  for (const action of plan.actions) {
    if (action.step !== step) {
      step = action.step;
      lines.push('', `${step}:`);
    }
    lines.push(...actionLines(action));
  }
  return plainText(`${lines.join('\n')}\n`);
}

function actionLines({ kind, argv, path, mode, content, text }: PlannedAction): string[] {
  if (kind === 'command' && argv) return [`  $ ${argv.map(quoted).join(' ')}`];
  const head = `  ${kind}${path ? ` ${path}` : ''}${mode ? ` (${mode})` : ''}${text && text !== path ? `: ${text}` : ''}`;
  if (content === undefined) return [head];
  return [
    head,
    ...content
      .replace(/\n$/, '')
      .split('\n')
      .map((line) => `    | ${line}`),
  ];
}

/** As a shell would take it. */
const quoted = (word: string) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
