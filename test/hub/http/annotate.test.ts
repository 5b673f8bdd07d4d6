import { expect, test } from 'vitest';
import { auditEntry } from '../../../src/hub/audit/entry.ts';
import { auditSubject } from '../../../src/hub/audit/subject.ts';
import { cleanUp } from '../../support/clean-up.ts';
import { bareApp } from './bare-app.ts';

const cleaning = cleanUp();

test('what a handler annotates stands in the audit line, bounded, beside what stood there', async () => {
  const subjects: ReturnType<typeof auditSubject>[] = [];
  const { port } = await bareApp(
    cleaning,
    async ({ annotate }) => {
      annotate('g/reason', 'why');
      annotate('g/long', 'x'.repeat(5_000));
      return { object: {} };
    },
    {
      subject(request) {
        const subject = auditSubject(request);
        subject.annotations ??= { 'g/before': 'kept' };
        subjects.push(subject);
        return subject;
      },
    },
  );
  expect((await fetch(`http://127.0.0.1:${port}/apis/g/v1/r/one`)).status).toBe(200);
  const [subject] = subjects;
  if (!subject) throw new Error('no subject');
  const request = { method: 'GET', url: '/', headers: {}, peer: undefined };
  const { annotations } = auditEntry(request, subject, { code: 200, received: new Date(), ended: new Date() });
  expect(annotations).toMatchObject({ 'g/before': 'kept', 'g/reason': 'why' });
  expect(annotations?.['g/long']?.length).toBeLessThan(1_100);
});
