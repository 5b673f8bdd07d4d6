export const WEBSOCKET = [
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
];
export const SPDY = ['Connection: Upgrade', 'Upgrade: SPDY/3.1', 'X-Stream-Protocol-Version: v4.channel.k8s.io'];
export const FORMS = [
  ['GET', WEBSOCKET],
  ['POST', SPDY],
] as const;

/** An answer of a child with a body of five bytes, as bytes. */
export const plain = (code: number, more = '') => `HTTP/1.1 ${code} Whatever\r\n${more}Content-Length: 5\r\n\r\nwords`;
/** What a child answers to an upgrade, and the code that the client must see. */
export const ANSWERS: ReadonlyArray<[what: string, bytes: string, code: number, delayMs?: number]> = [
  ['200', plain(200), 200],
  ['200 without length', 'HTTP/1.1 200 OK\r\n\r\nwords', 200],
  ['200 with Upgrade headers', plain(200, 'Connection: Upgrade\r\nUpgrade: websocket\r\n'), 200],
  ['204', 'HTTP/1.1 204 No Content\r\n\r\n', 204],
  ['302', plain(302, 'Location: https://127.0.0.1:1/\r\n'), 502],
  ['400', plain(400), 400],
  ['403', plain(403), 403],
  ['500', plain(500), 500],
  ['999', plain(999), 502],
  ['a code that claims to be a switch', plain(403, 'Fairlead-Status: 101\r\nFairlead-Switched: 1\r\n'), 403],
  ['two content types', plain(403, 'Content-Type: a/b\r\nContent-Type: c/d\r\n'), 403],
  ['garbage', 'SSH-2.0-nobody\r\n\r\n', 502],
  ['nothing', '', 502],
  ['slow', plain(403), 403, 700],
];
