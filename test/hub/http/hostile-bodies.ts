// Run by body.test.ts in a process of its own: prints how many bytes of resident memory each hostile body added, the processor time of the thread that it took, and its code, as JSON.
import { parseBody } from '../../../src/hub/http/body.ts';
import { MAX_YAML_BYTES } from '../../../src/hub/http/yaml-body.ts';
import { StatusError } from '../../../src/kube/status.ts';
import { threadTime } from '../../support/thread-time.ts';

const SIZE = 3 * 1024 * 1024;
const fill = (text: string, size: number) => text.repeat(Math.floor(size / text.length));

const BODIES: Record<string, ['application/json' | 'application/yaml', () => Buffer]> = {
  'json objects': ['application/json', () => Buffer.from(`[${fill('{},', SIZE)}{}]`)],
  'json fields': ['application/json', () => Buffer.from(`{${Array.from({ length: 200_000 }, (_, index) => `"k${index}":1`).join(',')}}`)],
  'json brackets': ['application/json', () => Buffer.alloc(SIZE, '[')],
  'json escapes': ['application/json', () => Buffer.from(`"${fill('\\"', SIZE)}"`)],
  'yaml objects': ['application/yaml', () => Buffer.from(`[${fill('{},', MAX_YAML_BYTES - 2)}]`)],
  'yaml list': ['application/yaml', () => Buffer.from(fill('- a\n', MAX_YAML_BYTES))],
  'yaml tags': ['application/yaml', () => Buffer.from(fill('!a ', MAX_YAML_BYTES))],
  'yaml keys': ['application/yaml', () => Buffer.from(fill(': ', MAX_YAML_BYTES))],
};

function attempt(body: Buffer, type: 'application/json' | 'application/yaml'): number {
  try {
    parseBody(body, type);
    return 200;
  } catch (error) {
    if (error instanceof StatusError) return error.status.code;
    throw error;
  }
}

const results: Record<string, { grown: number; milliseconds: number; code: number }> = {};
for (const [name, [type, make]] of Object.entries(BODIES)) {
  const body = make();
  globalThis.gc?.();
  const before = process.memoryUsage().rss;
  const spent = threadTime();
  const code = attempt(body, type);
  results[name] = { grown: process.memoryUsage().rss - before, milliseconds: spent(), code };
}
process.stdout.write(JSON.stringify(results));
