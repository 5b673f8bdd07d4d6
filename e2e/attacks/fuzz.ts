import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { limit, longRun, times } from '../../test/support/counts.ts';
import { API, type HubEnv } from '../hub/env.ts';
import { runCommand } from '../lab/kubectl.ts';
import { waitFor } from '../lab/wait.ts';
import { begin, ended } from '../support/operations.ts';

type Parameter = { name: string; in: string; schema: Record<string, unknown> };
type PathItem = { parameters?: Parameter[]; get?: OperationObject; post?: OperationObject };
type OperationObject = { parameters?: Parameter[]; operationId: string; responses: Record<string, { links?: object }> };
type OpenApi = {
  paths: Record<string, PathItem>;
  components: { schemas?: Record<string, Schema>; securitySchemes?: object };
  security?: object[];
};

/** Parameters that are not generated: those of answers that have no end. */
const ENDLESS = ['watch', 'follow', 'sendInitialEvents', 'allowWatchBookmarks'];
/**
 * positive_data_acceptance: selectors, continue tokens and resource versions have a grammar that OpenAPI cannot say, and guards may refuse.
 * unsupported_method: a method that the caller has no right to is 403 before it is 405, as in Kubernetes.
 */
const LEFT_OUT = ['positive_data_acceptance', 'unsupported_method'];

type Schema = { properties?: Record<string, Schema>; additionalProperties?: Schema; nullable?: boolean; $ref?: string };

/** In what a client sends, null means that a field is not there, as everywhere in Kubernetes; kube-openapi has no word for it. */
function nullIsAbsent(schema: Schema): void {
  const nullable = (part: Schema): Schema => ({ ...(part.$ref ? { allOf: [part] } : part), nullable: true });
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    if (property.additionalProperties) property.additionalProperties = nullable(property.additionalProperties);
    schema.properties = { ...schema.properties, [name]: nullable(property) };
  }
}

/** Gives names that exist (and one that does not) to the paths, links from a new operation to its own paths, and the bearer token as the way in. */
function prepared(document: OpenApi, nodes: readonly string[], operations: readonly string[]): OpenApi {
  for (const [path, item] of Object.entries(document.paths)) {
    const names = path.includes('/nodeoperations/') ? operations : nodes;
    for (const holder of [item, item.get, item.post]) {
      if (!holder?.parameters) continue;
      holder.parameters = holder.parameters.filter(({ name }) => !ENDLESS.includes(name));
      for (const parameter of holder.parameters)
        if (parameter.in === 'path') parameter.schema = { type: 'string', enum: [...names, 'no-such-name'] };
    }
    const created = path.includes('/nodes/') ? item.post?.responses['201'] : undefined;
    if (created) {
      const target = (suffix: string) => document.paths[`${API}/nodeoperations/{name}${suffix}`];
      const name = '$response.body#/metadata/name';
      created.links = {
        read: { operationId: target('')?.get?.operationId, parameters: { name } },
        cancel: { operationId: target('/cancel')?.post?.operationId, parameters: { name } },
      };
    }
  }
  for (const [kind, schema] of Object.entries(document.components['schemas'] ?? {})) {
    if (/Options$|\.ObjectMeta$/.test(kind)) nullIsAbsent(schema);
  }
  document.components['securitySchemes'] = { bearer: { type: 'http', scheme: 'bearer' } };
  document.security = [{ bearer: [] }];
  return document;
}

/** The fuzzer, in a virtual environment of the tools' cache; the first time it is installed there. */
async function schemathesis(): Promise<string> {
  const script = fileURLToPath(new URL('../../hack/tools.sh', import.meta.url));
  const set = Object.entries(process.env).filter((entry): entry is [string, string] => entry[1] !== undefined);
  const { code, stdout, stderr } = await runCommand(script, ['schemathesis'], { env: Object.fromEntries(set), timeout: 180_000 });
  if (code !== 0) throw new Error(`hack/tools.sh schemathesis: ${stderr}`);
  return join(stdout.trim(), 'schemathesis');
}

/** Random and hostile requests made from the OpenAPI document. */
export function fuzzTests(env: HubEnv): void {
  const wanted = times(200, 5_000);

  test(`R62: at least ${wanted} fuzzed requests straight to the hub: no 5xx, no answer that OpenAPI does not describe`, {
    timeout: limit(240_000, 3_600_000),
  }, async () => {
    await env.kubectl(['create', 'serviceaccount', 'fuzz']);
    for (const role of ['operator', 'force']) {
      await env.kubectl([
        'create',
        'clusterrolebinding',
        `fuzz-${role}`,
        `--clusterrole=fairlead-node-${role}`,
        '--serviceaccount=default:fuzz',
      ]);
    }
    const token = await env.lab.serviceAccountToken('default', 'fuzz', 7 * 3600);
    const direct = await env.hub.client(0, { token });
    await waitFor(async () => (await direct.request('GET', `${API}/nodes`)).status === 200, {
      what: 'the rights to hold',
      timeout: 30_000,
      interval: 500,
    });
    const operations = [await begin(env.lab, env.lab.node(1)), await begin(env.lab, env.lab.node(2))];
    for (const operation of operations) await ended(env.lab, operation);
    const nodes = env.lab.nodes.slice(1, 4).map(({ name }) => name);
    const document = prepared(await env.lab.api.json<OpenApi>('GET', `/openapi/v3${API}`), nodes, operations);
    const file = (name: string, text: string) => {
      const path = join(env.lab.dir, name);
      writeFileSync(path, text, { mode: 0o600 });
      return path;
    };
    // The token goes through a file: command lines can be read by everybody.
    const config = file('schemathesis.toml', `[headers]\nAuthorization = "Bearer ${token}"\n`);
    const args = [
      `--config-file=${config}`,
      'run',
      file('fuzz-openapi.json', JSON.stringify(document)),
      `--url=${env.hub.replica(0).url}`,
      `--tls-verify=${file('fuzz-ca.crt', await env.hub.caBundle())}`,
      `--phases=${longRun ? 'examples,coverage,fuzzing,stateful' : 'fuzzing,stateful'}`,
      `--max-examples=${times(20, 600)}`,
      '--checks=all',
      `--exclude-checks=${LEFT_OUT.join(',')}`,
      '--continue-on-failure',
      '--request-timeout=30',
      '--suppress-health-check=all',
      '--generation-database=none',
      '--no-color',
    ];
    const { code, stdout, stderr } = await runCommand(await schemathesis(), args, {
      env: { PATH: process.env['PATH'] ?? '', HOME: env.lab.dir, PYTHONUNBUFFERED: '1' },
      cwd: env.lab.dir,
      timeout: limit(200_000, 3_500_000),
    });
    const generated = Number(/(\d[\d,]*) generated/.exec(stdout)?.[1]?.replaceAll(',', '') ?? 0);
    console.log(`R62: ${generated} cases`);
    expect(code, stdout.replaceAll(token, '[token]').slice(-12_000) + stderr.slice(-2_000)).toBe(0);
    expect(generated).toBeGreaterThanOrEqual(wanted);
    for (const { name } of env.lab.nodes)
      await waitFor(
        async () => (await env.kubectl(['get', `nodes.infraops.michael.io`, name, '-o', 'jsonpath={.status.operation}'])) === '',
        { what: `the operations of ${name} to end`, timeout: 60_000 },
      );
  });
}
