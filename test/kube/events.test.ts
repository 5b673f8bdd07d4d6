import { expect, test } from 'vitest';
import { type EventInput, eventRecorder } from '../../src/kube/events.ts';
import { eventually } from '../hub/auth/eventually.ts';
import { cleanUp } from '../support/clean-up.ts';
import { kubeApi } from '../support/kube-api.ts';

const EVENTS = '/apis/events.k8s.io/v1/namespaces/default/events';
const cleaning = cleanUp();

async function setUp() {
  const from = await kubeApi();
  cleaning.after(from.close);
  const errors: unknown[] = [];
  const record = eventRecorder({
    client: from.client,
    controller: 'fairlead-hub',
    instance: 'i'.repeat(200),
    signal: cleaning.signal(),
    onError: (error) => errors.push(error),
  });
  return { from, record, errors };
}

const input = (more: Partial<EventInput> = {}): EventInput => ({
  regarding: { apiVersion: 'v1', kind: 'Node', name: 'n1', uid: 'u1' },
  type: 'Normal',
  reason: 'RestartStarted',
  action: 'Restart',
  note: 'it begins',
  ...more,
});

test('an Event on a Node stands in namespace default, within the limits of the API', async () => {
  const { from, record } = await setUp();
  record(input());
  const event = await eventually('the Event', () => from.all(EVENTS)[0]);
  expect(event).toMatchObject({
    metadata: { namespace: 'default' },
    regarding: { kind: 'Node', name: 'n1', uid: 'u1' },
    type: 'Normal',
    reason: 'RestartStarted',
    action: 'Restart',
    note: 'it begins',
    reportingController: 'fairlead-hub',
    reportingInstance: 'i'.repeat(128),
  });
  expect(event.metadata.name).toMatch(/^n1\.[0-9a-f]{16}$/);
  expect(event['eventTime']).toMatch(/\.\d{6}Z$/);
});

test('regression: a note of a thousand letters with accents was longer than the kilobyte that the API takes', async () => {
  const { from, record } = await setUp();
  record(input({ note: 'é'.repeat(1_000) }));
  record(input({ note: `${'a'.repeat(1_022)}😀` }));
  const notes = await eventually('both', () => from.all(EVENTS).length === 2 && from.all(EVENTS).map((event) => String(event['note'])));
  for (const note of notes) {
    expect(Buffer.byteLength(note)).toBeLessThanOrEqual(1_024);
    expect(note).not.toContain('\ufffd');
    expect(note.isWellFormed()).toBe(true);
  }
  expect(notes.toSorted()).toEqual(['a'.repeat(1_022), 'é'.repeat(512)]);
});

test('regression: the name of an Event on a node with a very long name ended a label with a dash', async () => {
  const { from, record } = await setUp();
  record(input({ regarding: { apiVersion: 'v1', kind: 'Node', name: `${'a'.repeat(199)}-.b` } }));
  const event = await eventually('the Event', () => from.all(EVENTS)[0]);
  expect(event.metadata.name).toMatch(/^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/);
});

test('one after another; one that is refused is told and does not hold up the next', async () => {
  const { from, record, errors } = await setUp();
  let refused = 0;
  from.fault(({ method }) => (method === 'POST' && refused++ === 0 ? { code: 403 } : undefined));
  record(input({ note: 'first' }));
  record(input({ note: 'second' }));
  record(input({ note: 'third' }));
  await eventually('the others', () => from.all(EVENTS).length === 2);
  expect(from.seen.map(({ body }) => (body as { note: string }).note)).toEqual(['first', 'second', 'third']);
  expect(errors).toHaveLength(1);
});

test('at most a thousand wait while the API server hangs; the rest is dropped, and nothing throws', async () => {
  const { from, record } = await setUp();
  let open = false;
  from.fault(() => (open ? undefined : { delay: 200 }));
  for (let at = 0; at < 5_000; at++) record(input({ note: String(at) }));
  open = true;
  await eventually('those that waited', () => from.all(EVENTS).length >= 1_000);
  record(input({ note: 'last' }));
  await eventually('the last', () => from.all(EVENTS).some((event) => event['note'] === 'last'));
  expect(from.all(EVENTS).length).toBeLessThanOrEqual(1_002);
});

test('regression: an Event that came just when the last one was written could wait for ever', async () => {
  const { from, record } = await setUp();
  let written = 0;
  // onError is called synchronously in the writer; each tick after it is another moment of its end.
  for (let ticks = 0; ticks < 12; ticks++) {
    record(input({ note: 'before' }));
    await eventually('the one before', () => from.all(EVENTS).length === written + 1);
    for (let at = 0; at < ticks; at++) await null;
    record(input({ note: 'after' }));
    await eventually('the one after', () => from.all(EVENTS).length === written + 2);
    written += 2;
  }
});

test('after the end of the process nothing is written', async () => {
  const from = await kubeApi();
  cleaning.after(from.close);
  const stop = new AbortController();
  const record = eventRecorder({ client: from.client, controller: 'c', instance: 'i', signal: stop.signal });
  stop.abort();
  record(input());
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(from.seen).toEqual([]);
});
