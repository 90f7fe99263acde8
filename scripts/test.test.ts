import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { findTests, selectTests } from './test.mjs';

const runner = fileURLToPath(new URL('test.mjs', import.meta.url));
const importTest = "import { describe, it, test } from 'node:test';\n";
const files = {
  'src/good.test.ts': `${importTest}const one: number = 1;\ntest('adds', () => { if (one !== 1) throw one; });\n`,
  'src/bad.test.ts': `${importTest}test('breaks', () => { throw new Error('broken'); });\n`,
  'src/skips.test.ts': `${importTest}test('waits', { skip: 'needs a device' }, () => {});\ndescribe('s', () => { it('runs', () => {}); });\n`,
  'src/only-skips.test.ts': `${importTest}describe('s', () => { it('waits', { skip: 'needs a board' }, () => {}); });\n`,
  'examples/empty.test.ts': 'export {};\n',
  'src/crash.test.ts': "throw new Error('at load');\n",
  'src/not-a-test.ts': '',
  'src/node_modules/x.test.ts': '',
};
let root = '';

before(() => {
  root = mkdtempSync(join(tmpdir(), 'dmakit-runner-'));
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
  }
  writeFileSync(join(root, 'package.json'), '{ "type": "module" }');
});
after(() => rmSync(root, { recursive: true }));

const all = ['examples/empty.test.ts', 'src/bad.test.ts', 'src/crash.test.ts', 'src/good.test.ts'];
all.push('src/only-skips.test.ts', 'src/skips.test.ts');

test('finds the tests of all folders, and selects by path', () => {
  assert.deepEqual(findTests(root), all);
  assert.deepEqual(selectTests(all, ['./src/good']), ['src/good.test.ts']);
  assert.deepEqual(selectTests(all, ['skips', 'examples/']), [all[0], all[4], all[5]]);
  assert.deepEqual(selectTests(all, ['nothing']), []);
});

const runs: [args: string[], status: number, output: RegExp][] = [
  [['src/good'], 0, /pass 1/],
  [['src/good', 'src/skips'], 0, /1 skipped:\n {2}src\/skips\.test\.ts: waits: needs a device/],
  [['src/good', 'src/bad'], 1, /broken/],
  [['src/crash'], 1, /at load/],
  [['src/good', 'examples'], 1, /examples\/empty\.test\.ts holds no test/],
  [['src/only-skips'], 1, /no test was executed/],
  [['src/good', '--test-name-pattern=nothing'], 1, /no test was executed/],
  [['src/nothing'], 1, /no test file matches src\/nothing/],
];

for (const [args, status, output] of runs) {
  test(`exits with ${status} for ${args.join(' ')}`, () => {
    const env = { ...process.env, DMAKIT_TEST_ROOT: root };
    const run = spawnSync(process.execPath, [runner, ...args], { env, encoding: 'utf8' });
    assert.equal(run.status, status, run.stdout + run.stderr);
    assert.match(run.stdout + run.stderr, output);
  });
}
