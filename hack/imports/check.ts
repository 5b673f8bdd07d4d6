import { builtinModules } from 'node:module';
import { posix } from 'node:path';
import { composers, type Room, rooms } from './rules.ts';

export type Packages = { dependencies: readonly string[]; devDependencies: readonly string[] };
type Import = { specifier: string; typeOnly: boolean; line: number };

// Biome keeps every statement at the start of a line, so these are all forms that the sources can have.
const forms = [
  /^(?:import|export)\s+(type\b)?[^'";]*?\bfrom\s*['"]([^'"\n]+)['"]/gm,
  /^import\s*()['"]([^'"\n]+)['"]/gm,
  /\bimport\(\s*()['"]([^'"\n]+)['"]/g,
];

/** All imports of a source text, static and dynamic. */
export function importsOf(source: string): Import[] {
  return forms.flatMap((form) =>
    [...source.matchAll(form)].map((match) => ({
      specifier: match[2] ?? '',
      typeOnly: match[1] === 'type',
      line: source.slice(0, match.index).split('\n').length,
    })),
  );
}

const inside = (file: string, path: string) => file === path || file.startsWith(`${path}/`);

function roomOf(file: string): Room | undefined {
  return rooms.filter((room) => inside(file, room.path)).sort((a, b) => b.path.length - a.path.length)[0];
}

function packageOf(specifier: string): string {
  const [scope = '', name = ''] = specifier.split('/');
  return scope.startsWith('@') ? `${scope}/${name}` : scope;
}

function judge(file: string, room: Room, { specifier, typeOnly }: Import, packages: Packages): string | undefined {
  if (!specifier.startsWith('.')) {
    const name = packageOf(specifier);
    if (specifier.startsWith('node:')) return undefined;
    if (builtinModules.includes(name)) return `imports ${specifier}, which must be written node:${specifier}`;
    const known = [...packages.dependencies, ...(room.development || typeOnly ? packages.devDependencies : [])];
    return known.includes(name)
      ? undefined
      : `imports the package ${name}, which is not in ${room.development ? '' : 'the run-time '}dependencies`;
  }
  const target = posix.join(posix.dirname(file), specifier);
  const targetRoom = roomOf(target);
  if (targetRoom === room || (targetRoom && composers.includes(room.path) && inside(target, room.path))) return undefined;
  if (room.may.some((path) => inside(target, path))) return undefined;
  if (room.types?.some((path) => inside(target, path))) {
    return typeOnly ? undefined : `imports ${target}, of which ${room.path} may only import types`;
  }
  return `imports ${target}; ${room.path} may import ${[room.path, ...room.may].join(', ')}${room.types ? ` and types of ${room.types.join(', ')}` : ''}`;
}

/** The first circle of value imports that can be reached from `start`, as a path of files. */
function circleFrom(start: string, edges: ReadonlyMap<string, readonly string[]>, done: Set<string>): string[] | undefined {
  const trail: string[] = [];
  function visit(file: string): string[] | undefined {
    if (trail.includes(file)) return [...trail.slice(trail.indexOf(file)), file];
    if (done.has(file)) return undefined;
    trail.push(file);
    for (const next of edges.get(file) ?? []) {
      const circle = visit(next);
      if (circle) return circle;
    }
    trail.pop();
    done.add(file);
    return undefined;
  }
  return visit(start);
}

/** Checks the sources (path from the root of the repository, with '/', to text) and returns one line per violation. */
export function checkImports(sources: ReadonlyMap<string, string>, packages: Packages): string[] {
  const violations: string[] = [];
  const edges = new Map<string, string[]>();
  for (const [file, source] of sources) {
    const room = roomOf(file);
    if (!room) continue;
    const imports = importsOf(source);
    for (const one of imports) {
      const problem = judge(file, room, one, packages);
      if (problem) violations.push(`${file}:${one.line} ${problem}`);
    }
    const values = imports.filter(({ specifier, typeOnly }) => specifier.startsWith('.') && !typeOnly);
    edges.set(
      file,
      values.map(({ specifier }) => posix.join(posix.dirname(file), specifier)),
    );
  }
  const done = new Set<string>();
  for (const file of edges.keys()) {
    const circle = circleFrom(file, edges, done);
    if (!circle) continue;
    violations.push(`circular import: ${circle.join(' -> ')}`);
    for (const member of circle) done.add(member);
  }
  return violations;
}
