import { complete } from './lib/completion.ts';
import { EXIT } from './lib/exit.ts';
import { runInfra } from './lib/infra.ts';
import { COMPLETE_WORD } from './lib/infra-completion.ts';
import { main } from './lib/main.ts';

// `kubectl-infra __complete PLUGIN WORD...` is what the files of `kubectl infra completion install` call.
main(async (args) => {
  if (args[0] !== COMPLETE_WORD) return await runInfra(args);
  process.stdout.write(await complete(args[1] === 'restart' ? 'restart' : 'infra', args.slice(2)));
  return EXIT.done;
});
