import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { makeCa, makeServer } from '../hub/auth/pki.ts';
import { cleanUp } from '../support/clean-up.ts';
import { countConnections, listen } from '../tunnel/agent-end.ts';

const clean = cleanUp();
const agent = join(import.meta.dirname, '../../src/agent');

/** Servers of three companies; the machine trusts the first one by its store, the second one by NODE_EXTRA_CA_CERTS. Runs the text in a process of such a machine. */
async function machine() {
  const folder = await mkdtemp(join(tmpdir(), 'trust-'));
  clean.after(() => rm(folder, { recursive: true, force: true }));
  await mkdir(join(folder, 'empty'));
  const authorities = ['system', 'extra', 'file'].map((name) => makeCa(`${name}-ca`));
  const ports: number[] = [];
  for (const [at, authority] of authorities.entries()) {
    const { cert, key } = makeServer(authority, ['localhost', '127.0.0.1']);
    const server = createServer({ cert, key }, (_request, response) => response.end('{}'));
    countConnections(clean, server);
    ports.push(await listen(server));
    await writeFile(join(folder, String(at)), authority.cert);
  }
  const env = {
    PATH: process.env['PATH'],
    SSL_CERT_FILE: join(folder, '0'),
    SSL_CERT_DIR: join(folder, 'empty'),
    NODE_EXTRA_CA_CERTS: join(folder, '1'),
  };
  const run = async (text: string) => {
    const { stdout } = await promisify(execFile)(process.execPath, ['--no-warnings', '--input-type=module', '-e', text], { env });
    return JSON.parse(stdout) as unknown;
  };
  return { ports, run, file: join(folder, '2') };
}
const TRIES = 'const tried = (asked) => asked.then((got) => { got?.destroy?.(); return true; }, (error) => error.message);';

test("targets are trusted by the machine's store, by NODE_EXTRA_CA_CERTS and by --target-ca-file at once, and without the file by the two", async () => {
  const { ports, run, file } = await machine();
  const got = await run(`
    import { readFileSync } from 'node:fs';
    import { dialTLS, targetTrust } from '${agent}/upstream/dial.ts';
    ${TRIES}
    const to = (port, ca) => tried(dialTLS('it', ['127.0.0.1'], port, { servername: 'localhost', ...targetTrust(ca) }));
    const out = [];
    for (const ca of [undefined, readFileSync('${file}', 'utf8')]) for (const port of [${ports}]) out.push(await to(port, ca));
    console.log(JSON.stringify(out));
    process.exit(0);`);
  expect(got).toEqual([true, true, expect.stringContaining('cannot be reached'), true, true, true]);
});

test("a parent without a CA of its own is trusted by the machine's store, for tunnels and for requests, and beside it by the CA that it gave", async () => {
  const { ports, run, file } = await machine();
  const got = await run(`
    import { readFileSync } from 'node:fs';
    import { parentConnection } from '${agent}/parent/parent.ts';
    ${TRIES}
    const out = [];
    for (const learnt of [undefined, readFileSync('${file}', 'utf8')]) for (const port of [${ports}]) {
      const parent = parentConnection({ url: 'https://127.0.0.1:' + port, caFile: '', ca: '', serverName: '' }, () => learnt, {});
      out.push(await tried(parent.open(AbortSignal.timeout(5000))), await tried(parent.client(() => 't').request({ path: '/' })));
    }
    console.log(JSON.stringify(out));
    process.exit(0);`);
  const no = expect.stringContaining('certificate');
  expect(got).toEqual([true, true, true, true, no, no, true, true, true, true, true, true]);
});
