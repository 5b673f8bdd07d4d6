// A process of its own for the test of broken handshakes: prints its port, and a line for everything that nobody handled.
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { listenerTlsOptions, renewConnections, updateSecureContext } from '../../../src/hub/http/tls.ts';
import { makeCa, makeServer } from '../auth/pki.ts';

const requestHeaderCa = makeCa('front-proxy-ca');
const serving = makeServer(makeCa('server-ca'));
const server = createServer(listenerTlsOptions(serving, requestHeaderCa.cert));
renewConnections(server, requestHeaderCa.cert, () => false);
server.on('request', (_, response) => response.end('ok'));
process.on('uncaughtException', (error) => console.log(`unhandled ${error.stack}`));
process.on('unhandledRejection', (error) => console.log(`unhandled ${String(error)}`));
// Rotations go on in between.
setInterval(() => updateSecureContext(server, serving, makeCa('front-proxy-ca').cert), 100);
server.listen(0, '127.0.0.1', () => console.log(`port ${(server.address() as AddressInfo).port}`));
