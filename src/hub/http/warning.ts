/** kube-apiserver cuts warnings at this many characters, so that many of them fit into one header. */
const MAX_CHARACTERS = 256;

/**
 * The value of a `Warning` header for `text`: code 299, no agent, a quoted string. Control characters become spaces. Node writes headers as
 * latin1, so the UTF-8 bytes are given as such; kubectl reads UTF-8. Source: RFC 7234 section 5.5.
 */
export function warningHeader(text: string): string {
  let plain = '';
  let count = 0;
  for (const character of text) {
    if (++count > MAX_CHARACTERS) {
      plain += '...';
      break;
    }
    const code = character.codePointAt(0) ?? 0;
    if (code < 0x20 || code === 0x7f) plain += ' ';
    else plain += character === '"' || character === '\\' ? `\\${character}` : character;
  }
  return `299 - "${Buffer.from(plain, 'utf8').toString('latin1')}"`;
}
