import { runCommand } from './lib/command.ts';
import { main } from './lib/main.ts';
import { restart } from './lib/restart.ts';

main((args) => runCommand('restart', restart, args));
