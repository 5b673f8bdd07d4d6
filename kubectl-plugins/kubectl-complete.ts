import { basename } from 'node:path';
import { complete } from './lib/completion.ts';
import { EXIT } from './lib/exit.ts';
import { main } from './lib/main.ts';

main(async (args) => {
  // kubectl looks for kubectl_complete-<plugin>: the name by which this file was called says whose words are completed.
  const called = basename(process.argv[1] ?? process.argv0);
  process.stdout.write(await complete(called.startsWith('kubectl_complete-infra') ? 'infra' : 'restart', args));
  return EXIT.done;
});
