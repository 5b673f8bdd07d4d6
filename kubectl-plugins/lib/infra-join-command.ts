import { type BootstrapToken, createBootstrapToken } from './bootstrap-token.ts';
import type { Command } from './command.ts';
import { dryRunFlag, dryRunOf } from './dry-run.ts';
import { parseDuration } from './duration.ts';
import { EXIT, ExitError, UsageError } from './exit.ts';
import type { ParsedFlags } from './flags.ts';
import { joinParent } from './join-parent.ts';
import { furtherFlags, joinByKubectl, joinMachine, joinManifest } from './join-text.ts';
import { resolveAccess } from './kubeconfig.ts';

const PRINT = { kubectl: joinByKubectl, manifest: joinManifest, machine: joinMachine } as const;
const isPrint = (word: string): word is keyof typeof PRINT => Object.hasOwn(PRINT, word);
const LONGEST_MS = 30 * 24 * 3_600_000;

/** `kubectl infra join-command`. */
export const infraJoinCommand: Command = {
  name: 'kubectl infra join-command',
  usage: '',
  summary: 'Make a token and print what brings another cluster in',
  description: `kubectl infra join-command - make a bootstrap token and print what to run so that another cluster joins this one.

The token is a Secret in kube-system. Until it ends, any number of clusters may ask for registration with it, and it can do nothing else. It is
printed here and nowhere again; whoever has it can ask, so hand it on with care, and pipe it where you can (--print=manifest).
Needs kube-apiserver with --enable-bootstrap-token-auth, as kubeadm sets it. RBAC: "create" on secrets in kube-system.`,
  examples: [
    'kubectl infra join-command --cluster-name=edge-1',
    'kubectl infra join-command --ttl=1h --print=manifest | kubectl --context edge-1 apply -f -',
    'kubectl infra join-command --machine --parent-url=https://parent.example.com:6443 --type=EdgeCluster',
  ],
  flags: [
    { name: 'ttl', kind: 'text', placeholder: 'DURATION', help: 'How long the token lives, from 1m to 720h', default: '24h' },
    { name: 'cluster-name', kind: 'text', placeholder: 'NAME', help: 'Name that the cluster registers under; by default a part of its id' },
    { name: 'type', kind: 'text', placeholder: 'TYPE', help: 'Type to register as, for example EdgeCluster; by default StandardCluster' },
    {
      name: 'parent-url',
      kind: 'text',
      placeholder: 'URL',
      help: 'Address at which the other cluster reaches this one; by default that of the kubeconfig',
    },
    {
      name: 'print',
      kind: 'text',
      placeholder: 'FORM',
      help: 'kubectl: commands; manifest: only the objects, for a pipe; machine: commands for a machine without Kubernetes, which the parent can make a cluster',
      default: 'kubectl',
      choices: [
        'kubectl\tcommands for the other cluster',
        'manifest\tonly its objects',
        'machine\tcommands for a machine without Kubernetes',
      ],
    },
    { name: 'machine', kind: 'switch', help: 'The same as --print=machine', default: 'false' },
    dryRunFlag('print with a placeholder, and make no token', 'have the API server check it, and make no token'),
  ],
  run: async ({ flags, stdio, api, signal }) => {
    if (flags.words.length > 0) throw new UsageError(`join-command takes no arguments, "${flags.words[0]}" is one; use --cluster-name`);
    const ttl = parseDuration(flags.text('ttl') ?? '24h', 'ttl');
    if (ttl < 60_000 || ttl > LONGEST_MS) throw new UsageError('--ttl is from 1m to 720h');
    const print = flags.text('print') ?? (flags.on('machine') ? 'machine' : 'kubectl');
    if (flags.on('machine') && print !== 'machine') throw new UsageError(`give either --machine or --print=${print}`);
    if (!isPrint(print)) throw new UsageError(`--print=${print}: allowed forms are ${Object.keys(PRINT).join(', ')}`);
    const dryRun = dryRunOf(flags);
    const clusterName = word(flags, 'cluster-name', /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/, 60);
    const clusterType = word(flags, 'type', /^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/, 63);
    const parent = joinParent(resolveAccess(flags, process.env).cluster, flags.text('parent-url'));
    if (!parent.ca && print !== 'machine') {
      throw new ExitError(
        EXIT.error,
        'this kubeconfig has no CA to hand on (the server is verified by the CAs of this machine): use --certificate-authority FILE',
      );
    }
    for (const note of parent.notes) stdio.err(`note: ${note}\n`);

    let made: BootstrapToken | undefined;
    if (dryRun !== 'client') {
      const description = `Registration of ${clusterName ? `cluster ${clusterName}` : 'child clusters'}, made by kubectl infra join-command`;
      made = await createBootstrapToken(api(), { lifetimeMs: ttl, description, dryRun: dryRun === 'server', signal });
    }
    // A token of a dry run would not work.
    const token = dryRun === 'none' && made ? made.token : '<TOKEN>';
    const join = { parent, token, clusterName, clusterType };
    stdio.out(PRINT[print](join));
    const flagsLeft = furtherFlags(join);
    if (print === 'manifest' && flagsLeft.length > 0)
      stdio.err(`note: add to the arguments of the agent in deploy/agent: ${flagsLeft.join(' ')}\n`);
    if (dryRun === 'none' && made) {
      stdio.err(`The token ends at ${made.expires}. To end it now: kubectl -n kube-system delete secret ${made.secret}\n`);
      stdio.err('Watch the cluster come: kubectl infra clusters -w; if it has to be approved: kubectl infra requests\n');
    } else {
      stdio.err(`no token was made${dryRun === 'server' ? ' (server dry run)' : ' (dry run)'}\n`);
    }
    return EXIT.done;
  },
};

function word(flags: ParsedFlags, name: string, form: RegExp, longest: number): string | undefined {
  const value = flags.text(name);
  if (value !== undefined && (!form.test(value) || value.length > longest)) {
    throw new UsageError(`--${name}=${value}: takes at most ${longest} letters (lower case for a name), digits, - and .`);
  }
  return value;
}
