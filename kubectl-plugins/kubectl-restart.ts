import { main } from './lib/main.ts';
import { restart } from './lib/restart.ts';
import { runCommand } from './lib/run-command.ts';

main((args) => runCommand('restart', restart, args));
