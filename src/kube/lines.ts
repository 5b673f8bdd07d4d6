/** The lines of a byte stream, without their ends; an unfinished last line is dropped, because a cut watch ends in the middle of an object. */
export async function* lines(stream: AsyncIterable<unknown>): AsyncGenerator<string> {
  let rest: Buffer[] = [];
  for await (const part of stream) {
    let chunk = part as Buffer;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10)) {
      rest.push(chunk.subarray(0, end));
      const line = (rest.length === 1 ? (rest[0] as Buffer) : Buffer.concat(rest)).toString('utf8');
      rest = [];
      chunk = chunk.subarray(end + 1);
      if (line !== '') yield line;
    }
    if (chunk.length > 0) rest.push(chunk);
  }
}
