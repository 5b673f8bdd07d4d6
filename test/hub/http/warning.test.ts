import { validateHeaderValue } from 'node:http';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { warningHeader } from '../../../src/hub/http/warning.ts';

test('quotes and backslashes are escaped, line breaks are gone, UTF-8 passes', () => {
  expect(warningHeader('unknown field "a\\b"')).toBe('299 - "unknown field \\"a\\\\b\\""');
  expect(warningHeader('a\r\nSet-Cookie: x\u007f')).toBe('299 - "a  Set-Cookie: x "');
  expect(Buffer.from(warningHeader('é 😀'), 'latin1').toString('utf8')).toBe('299 - "é 😀"');
  expect(warningHeader('x'.repeat(300))).toBe(`299 - "${'x'.repeat(256)}..."`);
});

test('whatever the text, Node takes the header and it stays one', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 400 }), (text) => {
      const header = warningHeader(text);
      validateHeaderValue('Warning', header);
      expect(header).not.toMatch(/[\r\n]/);
    }),
  );
});
