import { globSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { checkImports, type Packages } from './imports/check.ts';
import { rooms } from './imports/rules.ts';

// Checks every TypeScript file of every room against hack/imports/rules.ts; exit code 1 when there are violations.
process.chdir(fileURLToPath(new URL('..', import.meta.url)));

const manifest = JSON.parse(readFileSync('package.json', 'utf8')) as Record<string, Record<string, string> | undefined>;
const packages: Packages = {
  dependencies: Object.keys(manifest['dependencies'] ?? {}),
  devDependencies: Object.keys(manifest['devDependencies'] ?? {}),
};
const tops = new Set(rooms.map((room) => room.path.split('/')[0] ?? ''));
const files = [...tops].flatMap((top) => globSync(`${top}/**/*.ts`)).sort();
const violations = checkImports(new Map(files.map((file) => [file, readFileSync(file, 'utf8')])), packages);
for (const violation of violations) console.log(violation);
console.log(`import rules: ${files.length} files, ${violations.length} violations`);
process.exitCode = violations.length > 0 || files.length === 0 ? 1 : 0;
