import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { CliError } from './errors.ts';
import { bundleDriver, installation } from './loader.ts';
import { placeText, quoteSource, userPlace } from './source-place.ts';
import { scratchFolder } from './testing.cases.ts';

const dir = scratchFolder();
function file(name: string, ...lines: string[]): string {
  const path = join(dir, name);
  writeFileSync(path, lines.join('\n'));
  return path;
}
async function refusal(path: string): Promise<CliError> {
  const error = await bundleDriver(path).then(
    () => assert.fail('it was accepted'),
    (thrown) => thrown,
  );
  assert.ok(error instanceof CliError, String(error));
  assert.equal(error.exitCode, 2);
  return error;
}
async function load(path: string): Promise<Record<string, unknown>> {
  const bundle = await bundleDriver(path);
  const module = join(dir, `bundle-${Math.floor(performance.now() * 1000)}.mjs`);
  writeFileSync(module, bundle.code);
  return import(pathToFileURL(module).href);
}

test('a syntax error is told with file, line, column, and the line itself', async () => {
  const { message, hint } = await refusal(file('broken.ts', 'const a = 1;', 'const b = {;', ''));
  assert.match(message, /broken\.ts:2:12: Expected identifier but found ";"$/);
  assert.match(hint, /^2 \| const b = \{;\n {15}\^/);
});

test('what cannot be read, or is no driver file, is refused in words', async () => {
  assert.match((await refusal(join(dir, 'nope.ts'))).message, /^cannot read '.*nope\.ts': no such file$/);
  assert.match((await refusal(dir)).message, /is a directory \(expected a file\)$/);
  assert.match((await refusal(file('notes.md', '# x'))).message, /expected a name ending in \.ts, \.mts, \.js, \.mjs$/);
});

test('an import that cannot be found names the line', async () => {
  const missing = await refusal(file('missing.ts', "import './nowhere.ts';"));
  assert.match(missing.message, /missing\.ts:1:8: Could not resolve "\.\/nowhere\.ts"$/);
  const part = await refusal(file('part.ts', "import { x } from 'dmakit/frob';", 'x();'));
  assert.match(part.message, /part\.ts:1:19: dmakit has no part 'frob': import from dmakit\/base, /);
});

test("dmakit's modules are those of this installation, by name and by path", async () => {
  const base = await import('../base/errno.ts');
  const byName = await load(file('by-name.ts', "export { KernelBug } from 'dmakit/base';"));
  assert.equal(byName.KernelBug, base.KernelBug);
  const source = JSON.stringify(join(installation, 'base', 'errno.ts'));
  const byPath = await load(file('by-path.mts', `export { KernelBug } from ${source};`));
  assert.equal(byPath.KernelBug, base.KernelBug);
});

test('types and `using` are lowered, and what the file imports is bundled with it', async () => {
  mkdirSync(join(dir, 'lib'), { recursive: true });
  file('lib/log.ts', 'export const log: string[] = [];');
  const path = file(
    'using.ts',
    "import { log } from './lib/log.ts';",
    'interface Held { name: string }',
    'export function run(): string[] {',
    "  using held = { name: 'held' as Held['name'], [Symbol.dispose]: () => void log.push('disposed') };",
    '  log.push(held.name);',
    '  return log;',
    '}',
  );
  const { run } = (await load(path)) as { run: () => string[] };
  assert.deepEqual(run(), ['held', 'disposed']);
});

test("places in stacks are those of the user's file", async () => {
  const path = file(
    'place.ts',
    'interface Gone {',
    '  x: number;',
    '}',
    'export const where = () =>',
    '  new Error().stack!;',
  );
  process.setSourceMapsEnabled(true);
  const { where } = (await load(path)) as { where: () => string };
  const place = userPlace(where(), installation);
  assert.deepEqual(place, { file: path, line: 5, column: 3 });
  assert.equal(placeText(place!), `${path}:5:3`);
  assert.equal(quoteSource(place!), '  4 | export const where = () =>\n> 5 |   new Error().stack!;\n    |   ^\n');
});
