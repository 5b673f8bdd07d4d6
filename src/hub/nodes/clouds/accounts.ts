import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { type Static, Type } from 'typebox';
import { Compile } from 'typebox/compile';
import { parseDocument } from 'yaml';
import type { CloudDefinition, ConfiguredAccount } from './definition.ts';

const closed = { additionalProperties: false };
const Text = Type.String({ minLength: 1, maxLength: 1024 });
const Place = Type.String({ pattern: '^[a-z0-9][a-z0-9-]{1,39}$' });
const Variable = Type.String({ pattern: '^[A-Za-z_][A-Za-z0-9_]{0,127}$' });

const AccountEntry = Type.Object(
  {
    name: Type.String({ pattern: '^[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?$' }),
    cloud: Text,
    region: Type.Optional(Place),
    endpoint: Type.Optional(Text),
    caFile: Type.Optional(Text),
    timeoutSeconds: Type.Optional(Type.Number({ minimum: 0.1, maximum: 120 })),
    credentials: Type.Optional(
      Type.Object(
        {
          files: Type.Optional(Type.Object({ id: Text, secret: Text, token: Type.Optional(Text) }, closed)),
          env: Type.Optional(Type.Object({ id: Variable, secret: Variable, token: Type.Optional(Variable) }, closed)),
          profile: Type.Optional(Type.String({ pattern: '^[A-Za-z0-9_.@ -]{1,128}$' })),
          role: Type.Optional(
            Type.Object(
              {
                arn: Text,
                webIdentityTokenFile: Type.Optional(Text),
                provider: Type.Optional(Text),
                externalID: Type.Optional(Text),
                sessionName: Type.Optional(Type.String({ pattern: '^[A-Za-z0-9_=,.@-]{2,64}$' })),
                stsEndpoint: Type.Optional(Text),
              },
              closed,
            ),
          ),
          instanceRole: Type.Optional(Type.String({ maxLength: 128 })),
        },
        closed,
      ),
    ),
    match: Type.Optional(
      Type.Object(
        {
          nodeSelector: Type.Optional(Type.Record(Type.String(), Type.String())),
          regions: Type.Optional(Type.Array(Place, { minItems: 1 })),
        },
        closed,
      ),
    ),
  },
  closed,
);

/** The accounts file (`--cloud-config`), YAML. Paths in it are relative to the file. It holds no secrets, only where they are. */
export const AccountsFile = Type.Object({ accounts: Type.Array(AccountEntry, { maxItems: 1000 }) }, closed);
export type AccountsFile = Static<typeof AccountsFile>;

/** A fault of the accounts file: names the file and the field, never a value. */
export class AccountsError extends Error {
  override name = 'AccountsError';
}

/** Reads and checks an accounts file. Throws AccountsError with every fault found. */
export async function readAccounts(path: string, clouds: readonly CloudDefinition[]): Promise<ConfiguredAccount[]> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new AccountsError(`${path}: cannot be read (${error.code ?? error.name})`);
  });
  const accounts = parseAccounts(path, text, clouds);
  return Promise.all(
    accounts.map(async ({ caFile, ...account }, i) => {
      if (caFile === undefined) return account;
      const ca = await readFile(caFile, 'utf8').catch((error: NodeJS.ErrnoException) => {
        throw new AccountsError(`${path}: accounts[${i}].caFile: cannot be read (${error.code ?? error.name})`);
      });
      return { ...account, ca };
    }),
  );
}

/** Checks the text of an accounts file; `path` is for messages and as the place that relative paths start from. */
export function parseAccounts(path: string, text: string, clouds: readonly CloudDefinition[]): (ConfiguredAccount & { caFile?: string })[] {
  // The parser's own messages quote the text.
  const document = parseDocument(text, { prettyErrors: false, logLevel: 'silent' });
  const [broken] = document.errors;
  if (broken) throw new AccountsError(`${path}: line ${text.slice(0, broken.pos[0]).split('\n').length}: not valid YAML (${broken.code})`);
  let content: unknown;
  try {
    content = document.toJS({ maxAliasCount: 20 });
  } catch {
    throw new AccountsError(`${path}: too many YAML aliases`);
  }
  const validator = Compile(AccountsFile);
  if (!validator.Check(content)) {
    const faults = [...validator.Errors(content)].slice(0, 20).map((e) => `${fieldOf(e.instancePath)}: ${explain(e)}`);
    throw new AccountsError(`${path}: ${[...new Set(faults)].join('; ')}`);
  }
  const faults = content.accounts.flatMap((entry, i) =>
    faultsOf(entry, content.accounts.slice(0, i), clouds).map((f) => `accounts[${i}].${f}`),
  );
  if (faults.length > 0) throw new AccountsError(`${path}: ${faults.join('; ')}`);
  const absolute = (file: string) => resolve(dirname(path), file);
  return content.accounts.map(({ name, cloud, timeoutSeconds, caFile, credentials = {}, match = {}, ...rest }) => ({
    ...rest,
    name,
    cloud,
    ...(timeoutSeconds !== undefined && { timeoutMilliseconds: timeoutSeconds * 1000 }),
    ...(caFile !== undefined && { caFile: absolute(caFile) }),
    credentials: {
      ...credentials,
      ...(credentials.files && {
        files: {
          id: absolute(credentials.files.id),
          secret: absolute(credentials.files.secret),
          ...(credentials.files.token !== undefined && { token: absolute(credentials.files.token) }),
        },
      }),
      ...(credentials.role && {
        role: {
          ...credentials.role,
          ...(credentials.role.webIdentityTokenFile !== undefined && {
            webIdentityTokenFile: absolute(credentials.role.webIdentityTokenFile),
          }),
        },
      }),
    },
    match,
  }));
}

type Entry = AccountsFile['accounts'][number];

function faultsOf(entry: Entry, before: Entry[], clouds: readonly CloudDefinition[]): string[] {
  const definition = clouds.find((c) => c.name === entry.cloud);
  if (!definition) return [`cloud: must be one of ${clouds.map((c) => c.name).join(', ')}`];
  const faults: string[] = [];
  if (before.some((b) => b.name === entry.name)) faults.push('name: is used twice');
  const endpointFault = entry.endpoint === undefined ? undefined : definition.checkEndpoint(entry.endpoint);
  if (endpointFault !== undefined) faults.push(`endpoint: ${endpointFault}`);
  const sections = Object.keys(entry.credentials ?? {});
  if (sections.length > 1) faults.push(`credentials: only one of ${sections.join(', ')} can be given`);
  for (const section of sections) {
    if (!definition.credentials.some((known) => known === section))
      faults.push(`credentials.${section}: ${definition.name} does not know it; it takes ${definition.credentials.join(', ')}`);
  }
  return faults;
}

/** `/accounts/0/region` -> `accounts[0].region` */
function fieldOf(pointer: string): string {
  const path = pointer
    .slice(1)
    .replace(/\/(\d+)(?=\/|$)/g, '[$1]')
    .replaceAll('/', '.');
  return path || 'the file';
}

function explain(error: { keyword: string; message: string; params: unknown }): string {
  if (error.keyword !== 'additionalProperties') return error.message;
  const names = typeof error.params === 'object' && error.params !== null ? Object.values(error.params).flat() : [];
  return `unknown field ${names.map((n) => JSON.stringify(n)).join(', ')} (secrets are never written here: name files or environment variables)`;
}
