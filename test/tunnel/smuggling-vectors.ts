/** A request that a parser could take for two. `rest` is what follows the request line; `second` is the request that must never be carried out. */
export type Vector = {
  name: string;
  /** Instead of `POST PATH HTTP/1.1`. */
  line?: (path: string) => string;
  rest: (second: string) => string;
  /** Well-formed, though odd: one request, whose body holds the second one. */
  whole?: true;
};

const HOST = 'Host: hub\r\n';
const hex = (text: string) => text.length.toString(16);
const chunk = (text: string) => `${hex(text)}\r\n${text}\r\n`;
/** A header as given, a body that ends at once for those who read chunks, and the second request. */
const encoding = (header: string, extra = ''): Vector => ({
  name: JSON.stringify(header + extra),
  rest: (second) => `${HOST}${header}\r\n${extra}\r\n0\r\n\r\n${second}`,
});
/** A length that some read as 5. */
const length = (header: string): Vector => ({ name: JSON.stringify(header), rest: (second) => `${HOST}${header}\r\n\r\nhello${second}` });
/** A header that stands where it must not, and the second request as if the first had no body. */
const header = (text: string): Vector => ({ name: JSON.stringify(text), rest: (second) => `${HOST}${text}\r\n\r\n${second}` });
const line = (name: string, make: (path: string) => string): Vector => ({ name, line: make, rest: (second) => `${HOST}\r\n${second}` });
const chunks = (name: string, body: (second: string) => string): Vector => ({
  name: `chunks: ${name}`,
  rest: (second) => `${HOST}Transfer-Encoding: chunked\r\n\r\n${body(second)}`,
});
const whole = (vector: Vector): Vector => ({ ...vector, whole: true });

export const VECTORS: readonly Vector[] = [
  encoding('Transfer-Encoding: chunked', 'Content-Length: 4\r\n'),
  encoding('Content-Length: 4', 'Transfer-Encoding: chunked\r\n'),
  encoding('Content-Length: 0', 'Transfer-Encoding: chunked\r\n'),
  encoding('Transfer-Encoding: xchunked'),
  encoding('Transfer-Encoding: chunkedx'),
  encoding('Transfer-Encoding : chunked'),
  encoding('Transfer-Encoding\t: chunked'),
  encoding('Transfer-Encoding: chunked, identity'),
  encoding('Transfer-Encoding: identity'),
  encoding('Transfer-Encoding: gzip'),
  encoding('Transfer-Encoding: "chunked"'),
  encoding('Transfer-Encoding: chunked\0'),
  encoding('Transfer-Encoding: \x0bchunked'),
  encoding('Transfer-Encoding: chun ked'),
  encoding('Transfer-Encoding: chunked;q=1'),
  encoding('Transfer-Encoding:\r\n chunked'),
  encoding('X: y\r\n Transfer-Encoding: chunked'),
  encoding('X: y\nTransfer-Encoding: chunked', 'Content-Length: 5\r\n'),
  encoding('Transfer-Encoding: chunked\r\nTransfer-Encoding: identity'),
  length('Content-Length: 5\r\nContent-Length: 6'),
  length('Content-Length: 5\r\nContent-Length: 5'),
  length('Content-Length: 5, 5'),
  length('Content-Length: 5, 6'),
  length('Content-Length: +5'),
  length('Content-Length: -5'),
  length('Content-Length: 0x5'),
  length('Content-Length: 5 5'),
  length('Content-Length: 5\0'),
  length('Content-Length: 5a'),
  length('Content-Length: 5.0'),
  length('Content-Length: 5e0'),
  length('Content-Length: "5"'),
  length('Content-Length:'),
  length('Content-Length: 18446744073709551621'),
  length('Content-Length : 5'),
  length('Content-Length\0: 5'),
  length('Content Length: 5'),
  length('Content-Length: \r\n 5'),
  header('X: a\rContent-Length: 5'),
  header('X: a\r\rContent-Length: 5'),
  header('X: a\nContent-Length: 5'),
  header('X: a\0b'),
  header('X\0: a'),
  header('X'),
  header(': a'),
  header('X(a): b'),
  header('X a: b'),
  header('X: a\r\n\tb'),
  header(' X: a'),
  header('X: a\x7fb\x01'),
  header('X\xe9: a'),
  line('a tab between method and path', (path) => `POST\t${path} HTTP/1.1\r\n`),
  line('a path with a space', (path) => `POST ${path} x HTTP/1.1\r\n`),
  line('a path with a carriage return', (path) => `POST ${path}\rx HTTP/1.1\r\n`),
  line('a path with a NUL', (path) => `POST ${path}\0x HTTP/1.1\r\n`),
  line('a version that there is not', (path) => `POST ${path} HTTP/1.9\r\n`),
  line('a version in small letters', (path) => `POST ${path} http/1.1\r\n`),
  line('a version behind nothing', (path) => `POST ${path} HTTP/1.1x\r\n`),
  line('no version', (path) => `POST ${path}\r\n`),
  line('a method that there is not', (path) => `POSTX ${path} HTTP/1.1\r\n`),
  line('a method behind a space', (path) => ` POST ${path} HTTP/1.1\r\n`),
  line('the preface of HTTP/2', () => 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
  line('a line that ends with carriage returns', (path) => `POST ${path} HTTP/1.1\r\r`),
  { name: 'no host', rest: (second) => `X: a\r\n\r\n${second}` },
  chunks('a size with a prefix', (second) => `0x5\r\nhello\r\n0\r\n\r\n${second}`),
  chunks('a negative size', (second) => `-1\r\nhello\r\n0\r\n\r\n${second}`),
  chunks('a size with a plus', (second) => `+5\r\nhello\r\n0\r\n\r\n${second}`),
  chunks('a size behind a space', (second) => ` 5\r\nhello\r\n0\r\n\r\n${second}`),
  chunks('a size before a space', (second) => `5 \r\nhello\r\n0 \r\n\r\n${second}`),
  chunks('no size', (second) => `\r\nhello\r\n0\r\n\r\n${second}`),
  chunks('a size beyond 64 bits', (second) => `10000000000000005\r\nhello\r\n0\r\n\r\n${second}`),
  chunks('a size that ends with a line feed', (second) => `5\nhello\r\n0\r\n\r\n${second}`),
  chunks('a size that ends with a carriage return', (second) => `5\rhello\r\n0\r\n\r\n${second}`),
  chunks('data without an end', (second) => `5\r\nhello0\r\n\r\n${second}`),
  chunks('data that is longer', (second) => `5\r\nhello!\r\n0\r\n\r\n${second}`),
  chunks('data that ends with a line feed', (second) => `5\r\nhello\n0\r\n\r\n${second}`),
  chunks('an extension with a line feed', (second) => `5;a\nb\r\nhello\r\n0\r\n\r\n${second}`),
  chunks('an extension with a carriage return', (second) => `5;a\rb\r\nhello\r\n0\r\n\r\n${second}`),
  chunks('an extension with a NUL', (second) => `5;a\0b\r\nhello\r\n0\r\n\r\n${second}`),
  chunks('a trailer without a colon', (second) => `0\r\nX\r\n\r\n${second}`),
  chunks('a trailer with a space before the colon', (second) => `0\r\nX : a\r\n\r\n${second}`),
  chunks('a trailer over two lines', (second) => `0\r\nX: a\r\n b\r\n\r\n${second}`),
  whole(chunks('an extension', (second) => `${hex(second)};a=b;c="d"\r\n${second}\r\n0;e\r\n\r\n`)),
  whole(chunks('many, of one byte', (second) => `${[...second].map(chunk).join('')}0\r\n\r\n`)),
  whole(chunks('a size with zeros in front', (second) => `0000${hex(second)}\r\n${second}\r\n000\r\n\r\n`)),
  chunks('a trailer that looks like a length', (second) => `0\r\nContent-Length: 5\r\n\r\n${second}`),
  whole({
    name: 'a length that ends at the next hop',
    rest: (second) => `${HOST}Connection: content-length\r\nContent-Length: ${second.length}\r\n\r\n${second}`,
  }),
  whole({
    name: 'a length and announced trailers',
    rest: (second) => `${HOST}Trailer: X-Sum\r\nContent-Length: ${second.length}\r\n\r\n${second}`,
  }),
  whole({
    name: 'chunks that end at the next hop',
    rest: (second) => `${HOST}Connection: transfer-encoding, trailer\r\nTransfer-Encoding: chunked\r\n\r\n${chunk(second)}0\r\n\r\n`,
  }),
  whole({ name: 'a length with zeros in front', rest: (second) => `${HOST}Content-Length: 000${second.length}\r\n\r\n${second}` }),
  whole({
    name: 'a header that is only alike',
    rest: (second) => `${HOST}Transfer_Encoding: chunked\r\nContent-Length: ${second.length}\r\n\r\n${second}`,
  }),
  whole({ name: 'two hosts', rest: (second) => `${HOST}Host: other\r\nContent-Length: ${second.length}\r\n\r\n${second}` }),
];

const OK = 'HTTP/1.1 200 OK\r\n';
/** Answers of a target that a parser could take for two; `second` is an answer that nobody asked for. */
export const ANSWERS: readonly (readonly [string, (second: string) => string])[] = [
  ['length and chunks', (second) => `${OK}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${second}`],
  ['chunks and length', (second) => `${OK}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n${second}`],
  ['two lengths', (second) => `${OK}Content-Length: 5\r\nContent-Length: 50\r\n\r\nhello${second}`],
  ['a list of lengths', (second) => `${OK}Content-Length: 5, 50\r\n\r\nhello${second}`],
  ['a length that is none', (second) => `${OK}Content-Length: 5x\r\n\r\nhello${second}`],
  ['a negative length', (second) => `${OK}Content-Length: -5\r\n\r\nhello${second}`],
  ['a length beyond 64 bits', (second) => `${OK}Content-Length: 18446744073709551621\r\n\r\nhello${second}`],
  ['a space before the colon', (second) => `${OK}Content-Length : 5\r\n\r\nhello${second}`],
  ['a header over two lines', (second) => `${OK}X: a\r\n Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello${second}`],
  ['carriage returns alone', (second) => `${OK}X: a\rContent-Length: 50\r\nContent-Length: 5\r\n\r\nhello${second}`],
  ['a NUL in a header', (second) => `${OK}X: a\0b\r\nContent-Length: 5\r\n\r\nhello${second}`],
  ['a header without a colon', (second) => `${OK}X\r\nContent-Length: 5\r\n\r\nhello${second}`],
  ['a chunk whose size is none', (second) => `${OK}Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n${second}`],
  ['a chunk that is longer', (second) => `${OK}Transfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n${second}`],
  ['a chunk extension with a line feed', (second) => `${OK}Transfer-Encoding: chunked\r\n\r\n5;a\nb\r\nhello\r\n0\r\n\r\n${second}`],
  ['a body where there is none', (second) => `HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello${second}`],
  [
    'an upgrade that nobody asked for',
    (second) => `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n${second}`,
  ],
  ['a version that there is not', (second) => `HTTP/3.7 200 OK\r\nContent-Length: 5\r\n\r\nhello${second}`],
  ['a status that is none', (second) => `HTTP/1.1 2000 OK\r\nContent-Length: 5\r\n\r\nhello${second}`],
  ['no HTTP at all', (second) => `hello\r\n\r\n${second}`],
];
