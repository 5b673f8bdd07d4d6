import type { OperationRequest } from '../../../../src/agent/lifecycle/operations/request.ts';
import { type Action, type Step, StepError } from '../../../../src/agent/lifecycle/operations/step.ts';
import type { OperationType } from '../../../../src/kube/lifecycle.ts';

export const request = (type: OperationType = 'Install'): OperationRequest => ({
  type,
  spec: { clusterType: 'kubeadm', version: 'v1.36.3' },
  before: undefined,
  requester: { user: 'ada', auditID: 'a-1' },
  version: 'v1.36.3',
});

const command = (...argv: string[]): Action => ({ kind: 'command', command: { argv, timeoutMs: 20_000 } });
const step = (name: string, part: Partial<Step>): Step => ({
  name,
  check: async () => false,
  run: async () => [],
  verify: async () => undefined,
  undo: async () => [],
  ...part,
});

/** Six steps with every kind of action, and each way to go on after a crash. */
export function exampleSteps(): Step[] {
  return [
    step('files', {
      check: async ({ machine }) => (await machine.read('/etc/app.conf')) === 'new = 1\n',
      run: async () => [
        { kind: 'write', path: '/etc/app.conf', content: 'new = 1\n', mode: 0o600 },
        { kind: 'write', path: '/etc/deep/er/file', content: 'x\n', mode: 0o644 },
        { kind: 'remove', path: '/etc/old.conf' },
      ],
      async verify({ machine }) {
        if (await machine.read('/etc/old.conf')) throw new StepError('/etc/old.conf is still there');
        if (!(await machine.read('/etc/deep/er/file'))) throw new StepError('/etc/deep/er/file is missing');
      },
    }),
    step('tool', {
      check: async ({ machine }) => (await machine.stat('/usr/bin/tool')) !== undefined,
      run: async () => [
        { kind: 'fetch', path: '/usr/bin/tool', artifact: 'bin/tool', mode: 0o755 },
        { kind: 'claim', paths: ['/var/data', '/var/never'] },
        command('make-data', 'x'),
      ],
      async verify({ machine }) {
        if (!(await machine.read('/var/data/more/c'))) throw new StepError('the data is not made');
      },
      afterCrash: 'repeat',
    }),
    step('already', { check: async () => true, undo: async () => Promise.reject(new Error('was not done, and must not be undone')) }),
    step('service', {
      check: ({ machine }) => machine.services.active('app'),
      run: async () => [
        { kind: 'write', path: '/etc/systemd/system/app.service', content: '[Service]\n', mode: 0o644 },
        { kind: 'service', unit: 'app', change: 'daemon-reload' },
        { kind: 'service', unit: 'app', change: 'start' },
        { kind: 'wait', text: 'app to be active', until: ({ services }) => services.active('app'), timeoutMs: 20_000 },
      ],
      undo: async () => [{ kind: 'service', unit: 'app', change: 'stop' }],
    }),
    step('database', {
      run: async () => [{ kind: 'claim', paths: ['/var/db', '/var/data'] }, command('make-db')],
      async verify({ machine }) {
        if (!(await machine.read('/var/db/two'))) throw new StepError('no database');
      },
      afterCrash: 'abandon',
    }),
    step('stamp', { run: async () => [command('stamp', 'done')], undo: async () => [command('unstamp')] }),
  ];
}

/** Some of them: a walk of undoing does not need all. */
export function smallSteps(): Step[] {
  return exampleSteps().filter(({ name }) => ['files', 'tool', 'stamp'].includes(name));
}

/** A single small one without commands, for walking pairs of crashes: there are very many. */
export function tinySteps(): Step[] {
  return [
    step('tiny', {
      check: async ({ machine }) => (await machine.read('/etc/app.conf')) === 'new = 1\n',
      run: async () => [{ kind: 'write', path: '/etc/app.conf', content: 'new = 1\n', mode: 0o600 }],
      async verify({ machine }) {
        if ((await machine.stat('/etc/app.conf'))?.mode !== 0o600) throw new StepError('/etc/app.conf has another mode');
      },
      undo: async () => [{ kind: 'remove', path: '/run/made' }],
    }),
  ];
}

/** Another step behind them that fails. */
export function failingSteps(steps: Step[] = exampleSteps()): Step[] {
  return [...steps, step('broken', { run: async () => [command('fail')] })];
}
