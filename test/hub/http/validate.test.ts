import fc from 'fast-check';
import { type TObject, Type } from 'typebox';
import { Compile } from 'typebox/compile';
import { expect, test } from 'vitest';
import { parseBody } from '../../../src/hub/http/body.ts';
import { optionsFromQuery, queryFields, readOptions } from '../../../src/hub/http/query-options.ts';
import { decode, type FieldValidation, fieldValidation } from '../../../src/hub/http/validate.ts';
import { API_VERSION, CancelOptions, GROUP, NodeOperation, RestartOptions } from '../../../src/hub/nodes/schema.ts';
import { type StatusCause, StatusError } from '../../../src/kube/status.ts';

const object = { group: GROUP, kind: 'nodes/restart', name: 'n1' };
const expected = { kind: 'RestartOptions', apiVersion: API_VERSION, object };
const read = (body: unknown, mode: FieldValidation = 'Warn', schema: TObject = RestartOptions, kind = 'RestartOptions') =>
  decode(schema, body, { fieldValidation: mode, kind, apiVersion: API_VERSION, object });
const json = (text: string) => parseBody(Buffer.from(text));

type Refusal = { code: number; message: string; causes: StatusCause[] };
function refused(run: () => unknown): Refusal {
  try {
    run();
  } catch (error) {
    if (!(error instanceof StatusError)) throw error;
    const { code, message = '', details } = error.status;
    return { code, message, causes: (details?.causes ?? []) as StatusCause[] };
  }
  throw new Error('nothing was refused');
}

test('a body is read into a fresh value; none is an empty object; null counts as absent', () => {
  const body = {
    apiVersion: API_VERSION,
    kind: 'RestartOptions',
    hard: true,
    dryRun: ['All'],
    reason: null,
    metadata: { labels: { a: 'b' } },
  };
  const { value, warnings } = read(body);
  expect(value).toEqual({ apiVersion: API_VERSION, kind: 'RestartOptions', hard: true, dryRun: ['All'], metadata: { labels: { a: 'b' } } });
  expect(value).not.toBe(body);
  expect(warnings).toEqual([]);
  expect(read(undefined)).toEqual({ value: {}, warnings: [] });
});

test('unknown and duplicate fields: Ignore is silent, Warn warns, Strict refuses in the words of kube-apiserver', () => {
  const body = json('{"hrad":true,"metadata":{"labels":{"x":"1","x":"2"},"nam":"x"},"drain":true,"drain":false}');
  const findings = [
    'duplicate field "metadata.labels.x"',
    'duplicate field "drain"',
    'unknown field "hrad"',
    'unknown field "metadata.nam"',
  ];
  expect(read(body, 'Ignore')).toEqual({ value: { metadata: { labels: { x: '2' } }, drain: false }, warnings: [] });
  expect(read(body, 'Warn').warnings).toEqual(findings);
  expect(refused(() => read(body, 'Strict'))).toMatchObject({
    code: 400,
    message: `RestartOptions in version "v1" cannot be handled as a RestartOptions: strict decoding error: ${findings.join(', ')}`,
  });
});

test('the paths of unknown fields in lists', () => {
  const operation = {
    spec: { nodeName: 'n', action: 'Stop', requestedBy: { username: 'u' } },
    status: { phase: 'Pending', history: [{ phase: 'Pending', time: '2026-01-01T00:00:00Z', foo: 1 }] },
  };
  expect(read(operation, 'Warn', NodeOperation, 'NodeOperation').warnings).toEqual(['unknown field "status.history[0].foo"']);
});

test.each([
  [{ hard: 'true' }, 'cannot unmarshal string into field "hard" of type boolean'],
  [{ gracePeriodSeconds: 1.5 }, 'cannot unmarshal number 1.5 into field "gracePeriodSeconds" of type integer'],
  [{ gracePeriodSeconds: 1e300 }, 'cannot unmarshal number 1e+300 into field "gracePeriodSeconds" of type integer'],
  [{ dryRun: 'All' }, 'cannot unmarshal string into field "dryRun" of type array'],
  [{ dryRun: [null] }, 'cannot unmarshal null into field "dryRun[0]" of type string'],
  [{ metadata: [] }, 'cannot unmarshal array into field "metadata" of type object'],
  [{ metadata: { labels: { a: 1 } } }, 'cannot unmarshal number 1 into field "metadata.labels[a]" of type string'],
  [['hard'], 'cannot unmarshal array into the object of type object'],
  ['hard', 'cannot unmarshal string into the object of type object'],
])('wrong type %j is a 400', (body, message) => {
  const refusal = refused(() => read(body));
  expect(refusal.code).toBe(400);
  expect(refusal.message).toBe(`RestartOptions in version "v1" cannot be handled as a RestartOptions: json: ${message}`);
});

test('another apiVersion or kind is a 400; empty ones are not', () => {
  expect(refused(() => read({ apiVersion: 'v1' }))).toMatchObject({
    code: 400,
    message: 'the API version in the data (v1) does not match the expected API version (infraops.michael.io/v1)',
  });
  expect(refused(() => read({ kind: 'StopOptions' })).message).toBe('StopOptions in version "v1" cannot be handled as a RestartOptions');
  expect(read({ apiVersion: '', kind: '' }).warnings).toEqual([]);
});

test('values out of bounds are a 422 with one cause for every field', () => {
  const body = {
    gracePeriodSeconds: -2,
    timeoutSeconds: 86_401,
    drainTimeoutSeconds: -1,
    skipWaitForDeleteTimeoutSeconds: -1,
    requestID: '-no-',
    reason: 'x'.repeat(1025),
    dryRun: ['some'],
    metadata: { creationTimestamp: 'today', deletionTimestamp: '2026-13-01T00:00:00Z' },
  };
  const { code, message, causes } = refused(() => read(body));
  expect(code).toBe(422);
  expect(message).toMatch(/^nodes\/restart\.infraops\.michael\.io "n1" is invalid: gracePeriodSeconds: Invalid value: -2: must be/);
  expect(Object.fromEntries(causes.map((cause) => [cause.field, cause.reason]))).toEqual({
    gracePeriodSeconds: 'FieldValueInvalid',
    timeoutSeconds: 'FieldValueInvalid',
    drainTimeoutSeconds: 'FieldValueInvalid',
    skipWaitForDeleteTimeoutSeconds: 'FieldValueInvalid',
    requestID: 'FieldValueInvalid',
    reason: 'FieldValueTooLong',
    'dryRun[0]': 'FieldValueNotSupported',
    'metadata.creationTimestamp': 'FieldValueInvalid',
    'metadata.deletionTimestamp': 'FieldValueInvalid',
  });
  expect(causes.find((cause) => cause.field === 'dryRun[0]')?.message).toBe('Unsupported value: "some": supported values: "All"');
});

test('absent required fields and too many items are causes as well', () => {
  const operation = { spec: { action: 'Explode', requestedBy: null } };
  const { causes } = refused(() => read(operation, 'Warn', NodeOperation, 'NodeOperation'));
  expect(causes.map((cause) => `${cause.field} ${cause.reason}`).sort()).toEqual([
    'spec.action FieldValueNotSupported',
    'spec.nodeName FieldValueRequired',
    'spec.requestedBy FieldValueRequired',
  ]);
  expect(refused(() => read({ dryRun: ['All', 'All'] })).causes).toEqual([
    { reason: 'FieldValueTooMany', message: 'Too many: 2: must have at most 1 items', field: 'dryRun' },
  ]);
});

test('an answer does not grow with the body: findings and the values shown in them are cut', () => {
  const many = Object.fromEntries(Array.from({ length: 5_000 }, (_, index) => [`x${index}${'y'.repeat(500)}`, 1]));
  expect(read(many).warnings).toHaveLength(64);
  const long = refused(() => read({ requestID: 'é'.repeat(100_000) }));
  expect(long.message.length).toBeLessThan(400);
});

test('what the schema itself checks and what decode accepts are the same', () => {
  const oracle = Compile(RestartOptions);
  const text = fc.oneof(
    fc.string(),
    fc.constantFrom('All', 'a', '2026-01-01T00:00:00Z', 'x'.repeat(1025), 'é'.repeat(1024), '😀'.repeat(600)),
  );
  const value = fc.oneof(
    fc.boolean(),
    fc.integer(),
    fc.double({ noNaN: true }),
    text,
    fc.array(text, { maxLength: 2 }),
    fc.dictionary(text, text, { maxKeys: 2 }),
  );
  const body = fc.dictionary(fc.constantFrom(...Object.keys(RestartOptions.properties).slice(3)), value, { maxKeys: 4 });
  fc.assert(
    fc.property(body, (candidate) => {
      const unsafe = Object.values(candidate).some((one) => typeof one === 'number' && Number.isInteger(one) && !Number.isSafeInteger(one));
      let accepted = true;
      try {
        expect(read(candidate).value).toEqual(candidate);
      } catch (error) {
        if (!(error instanceof StatusError)) throw error;
        accepted = false;
      }
      return unsafe ? true : accepted === oracle.Check(candidate);
    }),
    { numRuns: 2_000 },
  );
});

test('fieldValidation takes the three values and refuses others with 422', () => {
  const of = (query: string) => fieldValidation(new URLSearchParams(query), object);
  expect([of(''), of('fieldValidation='), of('fieldValidation=Strict'), of('fieldValidation=Ignore')]).toEqual([
    'Warn',
    'Warn',
    'Strict',
    'Ignore',
  ]);
  expect(refused(() => of('fieldValidation=strict'))).toMatchObject({ code: 422, causes: [{ field: 'fieldValidation' }] });
});

const fromQuery = (query: string) => optionsFromQuery(RestartOptions, new URLSearchParams(query));

test('query parameters become values of their types; unknown and standard ones are left alone', () => {
  expect(
    fromQuery('hard=true&drain=0&gracePeriodSeconds=-1&reason=a+b&dryRun=All&pretty=1&fieldManager=k&timeout=5s&nope=1&metadata=x'),
  ).toEqual({
    hard: true,
    drain: false,
    gracePeriodSeconds: -1,
    reason: 'a b',
    dryRun: ['All'],
  });
  expect(fromQuery('dryRun=All&dryRun=All&hard=true&hard=1')).toEqual({ dryRun: ['All'], hard: true });
  expect(queryFields(CancelOptions).map((field) => field.name)).toEqual(['reason']);
});

test.each([
  'force=flase',
  'force=',
  'force',
  'gracePeriodSeconds=1.5',
  'gracePeriodSeconds=',
  'gracePeriodSeconds=0x10',
  'gracePeriodSeconds=99999999999999999',
  'hard=true&hard=false',
])('query ?%s is a 400 that names the parameter', (query) => {
  const refusal = refused(() => fromQuery(query));
  expect(refusal.code).toBe(400);
  expect(refusal.message).toMatch(/^query parameter "(force|gracePeriodSeconds|hard)"/);
});

test('body and query together: they add up, agree, or are a 400', () => {
  const options = (body: unknown, query: string) => readOptions(RestartOptions, body, new URLSearchParams(query), expected);
  expect(options({ hard: true, drain: true }, 'drain=true&reason=x').value).toEqual({ hard: true, drain: true, reason: 'x' });
  expect(options(undefined, 'drain=true').value).toEqual({ drain: true });
  expect(refused(() => options({ force: false }, 'force=true'))).toMatchObject({
    code: 400,
    message: '"force" is true in the query and false in the body',
  });
  expect(refused(() => options({ dryRun: [] }, 'dryRun=All')).code).toBe(400);
  expect(refused(() => options(undefined, 'dryRun=Some'))).toMatchObject({ code: 422, causes: [{ field: 'dryRun[0]' }] });
  expect(refused(() => options([], 'hard=true')).code).toBe(400);
  expect(options(json('{"x":1,"hard":true,"hard":true}'), 'drain=true').warnings).toEqual(['duplicate field "hard"', 'unknown field "x"']);
  expect(refused(() => options(json('{"x":1}'), 'fieldValidation=Strict')).code).toBe(400);
});

test('a dry run is refused where there is none, never taken for the real thing', () => {
  const cancel = { ...expected, kind: 'CancelOptions' };
  expect(refused(() => readOptions(CancelOptions, undefined, new URLSearchParams('dryRun=All'), cancel))).toMatchObject({
    code: 400,
    message: 'CancelOptions has no dry run: leave out "dryRun"',
  });
});

test('required fields may come from the query', () => {
  const schema = Type.Object({ size: Type.Integer({ minimum: 1 }) });
  expect(readOptions(schema, {}, new URLSearchParams('size=2'), expected).value).toEqual({ size: 2 });
});
