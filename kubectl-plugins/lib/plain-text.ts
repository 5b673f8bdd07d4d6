/**
 * Text that others wrote (a cluster that wants in chooses its own name), safe for a terminal: control characters but line end and tab become
 * visible, as kubectl's tables do it for escape and carriage return.
 */
export function plainText(text: string): string {
  let plain = '';
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0;
    const control = (code < 0x20 && character !== '\n' && character !== '\t') || (code >= 0x7f && code < 0xa0);
    plain += !control ? character : code < 0x20 ? `^${String.fromCodePoint(code + 0x40)}` : `\\x${code.toString(16)}`;
  }
  return plain;
}
