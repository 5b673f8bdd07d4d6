import { expect, test } from 'vitest';
import { type Flag, FlagError, parseDuration, parseFlags, usage } from '../../src/kube/flags.ts';

const FLAGS: Flag[] = [
  { name: 'name', type: 'string', default: 'x', help: 'A name.' },
  { name: 'on', type: 'bool', default: 'false', help: 'A switch.' },
  { name: 'count', type: 'int', default: '1', help: 'A number.' },
  { name: 'wait-time', type: 'duration', default: '1s', help: 'A time.' },
  { name: 'many', type: 'string', default: '', help: 'Several.', repeated: true },
  { name: 'v', type: 'int', default: '0', help: 'Verbosity.' },
];
const parsed = (...args: string[]) => Object.fromEntries(parseFlags(FLAGS, args));

test('all forms of a flag', () => {
  expect(parsed()).toEqual({ name: ['x'], on: ['false'], count: ['1'], 'wait-time': ['1s'], many: [], v: ['0'] });
  expect(parsed('--name=a=b', '--on', '--count', '7', '-v', '4', '--wait-time=1h30m')).toMatchObject({
    name: ['a=b'],
    on: ['true'],
    count: ['7'],
    v: ['4'],
    'wait-time': ['1h30m'],
  });
  expect(parsed('--on=false', '-v=2', '--name=', '--name', 'last')).toMatchObject({ on: ['false'], v: ['2'], name: ['last'] });
  expect(parsed('--many=a', '--many', 'b')).toMatchObject({ many: ['a', 'b'] });
  expect(parsed('--name', '--on')).toMatchObject({ name: ['--on'], on: ['false'] });
});

test.each([
  [['what'], 'unexpected argument "what": flags begin with --, see --help'],
  [['--on', 'false'], 'unexpected argument "false": flags begin with --, see --help'],
  [['--'], 'unexpected argument "--": flags begin with --, see --help'],
  [['-vv'], 'unexpected argument "-vv": flags begin with --, see --help'],
  [[''], 'unexpected argument "": flags begin with --, see --help'],
  [['--nope'], 'unknown flag: --nope; see --help'],
  [['-x'], 'unknown flag: -x; see --help'],
  [['--wait_time=1s'], 'unknown flag: --wait_time; did you mean --wait-time?'],
  [['--waitTime=1s'], 'unknown flag: --waitTime; did you mean --wait-time?'],
  [['--na=1'], 'unknown flag: --na; did you mean --name?'],
  [['--count'], 'flag needs an argument: --count'],
  [['-v'], 'flag needs an argument: -v'],
  [['--count=1.5'], 'invalid argument "1.5" for --count: must be a whole number'],
  [['--count=-1'], 'invalid argument "-1" for --count: must be a whole number'],
  [['--count='], 'invalid argument "" for --count: must be a whole number'],
  [['--count=9999999999'], 'invalid argument "9999999999" for --count: must be a whole number'],
  [['--on=yes'], 'invalid argument "yes" for --on: must be true or false'],
  [['--wait-time=5'], 'invalid argument "5" for --wait-time: must be a duration like 500ms, 30s, 10m or 1h30m'],
])('%j: %s', (args, message) => {
  expect(() => parseFlags(FLAGS, args)).toThrow(new FlagError(message));
});

test.each([
  ['0', 0],
  ['0s', 0],
  ['500ms', 500],
  ['1.5s', 1_500],
  ['1h30m', 5_400_000],
  ['1m0.5s', 60_500],
  ['2160h', 7_776_000_000],
  ['', undefined],
  ['5', undefined],
  ['-1s', undefined],
  ['1d', undefined],
  ['1s ', undefined],
  ['1h-5m', undefined],
  ['.5s', undefined],
  ['1us', undefined],
])('duration %j', (text, milliseconds) => {
  expect(parseDuration(text)).toBe(milliseconds);
});

test('the help names every flag with its default', () => {
  const text = usage('Intro.', FLAGS);
  expect(text).toContain('Intro.\n\nFlags:\n  --name string\n        A name. (default x)\n  --on\n        A switch.\n');
  for (const flag of FLAGS) expect(text).toContain(flag.help);
});
