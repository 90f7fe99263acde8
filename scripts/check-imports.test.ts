import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { checkImports, importsOf } from './check-imports.mjs';
import { LAYERS } from './layers.mjs';
import { blank } from './source.mjs';

type Exception = { from: string; to: string; reason: string };

/** Checks a tree made of these files (path → source); every file it imports by './' must be among them. */
function check(files: Record<string, string>, exceptions: Exception[] = []) {
  const root = mkdtempSync(join(tmpdir(), 'dmakit-imports-'));
  try {
    writeFileSync(
      join(root, 'package.json'),
      JSON.stringify({ dependencies: { commander: '1' }, devDependencies: { tsx: '1' } }),
    );
    for (const [path, source] of Object.entries(files)) {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), source);
    }
    return checkImports(root, exceptions);
  } finally {
    rmSync(root, { recursive: true });
  }
}

const leaf = (folder: string) => ({ [`src/${folder}/leaf.ts`]: 'export const x = 1;\n' });

/** The errors of one import statement in one file, in a tree where every folder has a leaf.ts. */
function errorsOf(file: string, statement: string): string[] {
  const tree = Object.assign({}, ...Object.keys(LAYERS).map(leaf));
  return check({ ...tree, [file]: `${statement}\n` }).errors;
}

const allowed: [file: string, statement: string][] = [
  ['src/base/a.ts', "import { x } from './leaf.ts';"],
  ['src/hw/a.ts', "import type { x } from '../regs/leaf.ts';"],
  ['src/kernel/a.ts', "export * from '../machine/leaf.ts';"],
  ['src/drivers/a.ts', "import { x } from '../dmaengine/leaf.ts';"],
  ['src/boards/a.ts', "import { readFileSync } from 'node:fs';"],
  ['src/cli/a.ts', "import { Command } from 'commander';"],
  ['src/base/a.test.ts', "import { test } from 'node:test';"],
  ['src/base/a.test.ts', "import fc from 'fast-check';"],
  ['src/base/a.ts', "// import { x } from '../machine/leaf.ts';"],
  ['src/base/a.ts', "/* import 'node:fs' */ const s = \"it's\"; // import 'node:os'"],
];

const denied: [file: string, statement: string, error: RegExp][] = [
  ['src/base/a.ts', "import { x } from '../machine/leaf.ts';", /base \(level 0\) may import no other folder/],
  ['src/machine/a.ts', "import { x } from '../regs/leaf.ts';", /machine \(level 1\)/],
  ['src/hw/a.ts', "import { x } from '../kernel/leaf.ts';", /hw \(level 2\)/],
  ['src/kernel/a.ts', "import { x } from '../regs/leaf.ts';", /kernel \(level 2\)/],
  ['src/mapping/a.ts', "import { x } from '../machine/leaf.ts';", /mapping \(level 3\)/],
  ['src/iommu/a.ts', "import type { x } from '../dmaengine/leaf.ts';", /iommu \(level 4\)/],
  ['src/drivers/a.ts', "import { x } from '../hw/leaf.ts';", /drivers \(level 5\)/],
  ['src/drivers/a.ts', "type X = import('../hw/leaf.ts').X;", /drivers \(level 5\)/],
  ['src/drivers/a.test.ts', "import { x } from '../hw/leaf.ts';", /drivers \(level 5\)/],
  ['src/mapping/ops.cases.ts', "import { x } from '../boards/leaf.ts';", /mapping \(level 3\)/],
  ['src/trace/a.ts', "import { x } from '../boards/leaf.ts';", /trace \(level 6\)/],
  ['src/tools/a.ts', "import { x } from '../qemu/leaf.ts';", /tools \(level 7\)/],
  ['src/base/a.ts', "export { x } from '../cli/leaf.ts';", /base \(level 0\)/],
  ['src/checker/a.ts', "import { readFileSync } from 'node:fs';", /run in a browser/],
  ['src/base/a.ts', "import fs from 'fs';", /run in a browser/],
  ['src/base/a.ts', "import 'commander';", /run in a browser/],
  ['src/base/a.ts', "const m = await import('node:os');", /run in a browser/],
  ['src/base/a.ts', "import fc from 'fast-check';", /run in a browser/],
  ['src/base/a.test.ts', "import { spawn } from 'node:child_process';", /tests below level 6/],
  ['src/cli/a.ts', "import 'tsx';", /tsx is no runtime dependency/],
  ['src/cli/a.ts', "import '@scope/name/sub';", /@scope\/name is no runtime dependency/],
  ['src/base/a.ts', "import { x } from './leaf.js';", /\.ts ending/],
  ['src/base/a.ts', "import { x } from './absent.ts';", /does not exist/],
  ['src/base/a.ts', "import manifest from '../../package.json';", /outside src/],
  ['src/misc/a.ts', 'export {};', /misc is no folder of the table/],
  ['src/a.ts', 'export {};', /a\.ts is no folder of the table/],
];

for (const [file, statement] of allowed) {
  test(`allows in ${file}: ${statement}`, () => assert.deepEqual(errorsOf(file, statement), []));
}

for (const [file, statement, expected] of denied) {
  test(`denies in ${file}: ${statement}`, () => {
    const errors = errorsOf(file, statement);
    assert.equal(errors.length, 1, errors.join('\n'));
    assert.match(errors[0]!, expected);
    assert.ok(errors[0]!.startsWith(file), errors[0]);
  });
}

test('no source may import a test', () => {
  const { errors } = check({ 'src/base/a.test.ts': '', 'src/base/a.ts': "import './a.test.ts';" });
  assert.match(errors.join(), /only tests may import/);
});

test('an exception allows one import, needs a reason and must be needed', () => {
  const files = { 'src/base/a.ts': "import '../machine/leaf.ts';", ...leaf('machine') };
  const exception = { from: 'src/base/a.ts', to: 'src/machine/leaf.ts', reason: 'shown here' };
  assert.deepEqual(check(files, [exception]).errors, []);
  assert.match(check(files, [{ ...exception, reason: '' }]).errors.join(), /without a reason/);
  assert.match(check(leaf('machine'), [exception]).errors.join(), /no longer needed/);
});

test('a file over 500 lines is a warning', () => {
  const { errors, warnings } = check({ 'src/base/long.ts': '\n'.repeat(501), 'src/base/short.ts': '\n'.repeat(500) });
  assert.deepEqual(errors, []);
  assert.deepEqual(warnings, ['src/base/long.ts: 501 lines; over 500 is a sign to split']);
});

test('what a string says is no import', () => {
  assert.deepEqual(importsOf("throw new Error(`copied from 'x'`); f(\"import 'y'\");"), []);
});

test('imports are found with their lines, over several lines too', () => {
  assert.deepEqual(importsOf("import {\n  a,\n  b,\n} from './x.ts';\nimport './y.ts';\n"), [
    { specifier: './x.ts', line: 4 },
    { specifier: './y.ts', line: 5 },
  ]);
});

test('the layers name known folders of lower levels only', () => {
  for (const [folder, { level, mayImport }] of Object.entries(LAYERS)) {
    for (const other of mayImport) {
      const below = LAYERS[other as keyof typeof LAYERS];
      assert.ok(below !== undefined && below.level < level, `${folder} → ${other}`);
    }
  }
});

test('blanking keeps places, strings and what stands in templates', () => {
  const cases: [source: string, comments: string, strings: string][] = [
    ['a // b', 'a     ', 'a     '],
    ["'//' /* c */ x", "'//'         x", "'  '         x"],
    [`\`a$\{ b /* c */ }d\` // e`, `\`a$\{ b         }d\`     `, `\`  { b         } \`     `],
    ['x = /[/]"/ // y', 'x = /[/]"/     ', 'x = /    /     '],
    ['a / b // c', 'a / b     ', 'a / b     '],
    ["f('it\\'s') // c", "f('it\\'s')     ", "f('     ')     "],
  ];
  for (const [source, comments, strings] of cases) {
    assert.equal(blank(source), comments);
    assert.equal(blank(source, { strings: true }), strings);
  }
});
