import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { addressBits } from './address-bits.mjs';
import { checkRepo } from './check-repo.mjs';

function inTree<T>(files: Record<string, string | Buffer>, use: (root: string) => T): T {
  const root = realpathSync(mkdtempSync(join(tmpdir(), 'dmakit-tidy-')));
  try {
    for (const [path, content] of Object.entries(files)) {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), content);
    }
    return use(root);
  } finally {
    rmSync(root, { recursive: true });
  }
}

function errorsOf(files: Record<string, string | Buffer>): string[] {
  return inTree(files, (root) => {
    // Where the tests run within a hook, git's own variables would point elsewhere.
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('GIT_')));
    for (const args of [
      ['init', '-q'],
      ['add', '.'],
    ]) {
      assert.equal(spawnSync('git', args, { cwd: root, env }).status, 0, `git ${args[0]}`);
    }
    return checkRepo(root);
  });
}

// In pieces, since this file is checked as well.
const slash = (...parts: string[]) => ['', ...parts].join('/');
const clock = (object: string, method: string) => `const t = ${object}.${method}();\n`;

const bad: [name: string, file: string, content: string, error: RegExp][] = [
  ['a path of a machine', 'docs/a.md', `one\nsee ${slash('work', 'main')}\n`, /^docs\/a\.md:2: the path of a machine/],
  ['a home', 'a.sh', `cd ${slash('home', 'me')}\n`, /^a\.sh:1: the path/],
  ['a home of root', 'a.json', `{"x": "${slash('root', '.npmrc')}"}\n`, /^a\.json:1: the path/],
  ['a registry', '.npmrc', `registry=https://${['registry', 'npmjs', 'org'].join('.')}\n`, /^\.npmrc:1: the host/],
  ['chance', 'src/base/a.ts', clock('Math', 'random'), /^src\/base\/a\.ts:1: below level 6.*Math\.random/],
  ['the clock', 'src/checker/a.ts', `\n${clock('Date', 'now')}`, /^src\/checker\/a\.ts:2: below level 6/],
  ['a date', 'src/hw/a.ts', 'const d = new Date();\n', /new Date/],
  ['the fine clock', 'src/kernel/a.ts', clock('performance', 'now'), /performance\.now/],
];

for (const [name, file, content, expected] of bad) {
  test(`finds ${name} in ${file}`, () => {
    const errors = errorsOf({ [file]: content, 'fine.md': 'fine\n' });
    assert.equal(errors.length, 1, errors.join('\n'));
    assert.match(errors[0]!, expected);
  });
}

test('is content with what looks alike', () => {
  const files = {
    'a.md': 'src/work/a, ./home/x, https://example.org/home/x, a homework/root/x\n',
    'a.bin': Buffer.from(`\0 ${slash('work', 'x')}`),
    'src/boards/a.ts': clock('Date', 'now'),
    'src/base/a.test.ts': clock('Date', 'now'),
    'src/base/a.ts': "// no Math.random here\nconst why = 'not new Date()';\nconst newDate = renew.Date;\n",
  };
  assert.deepEqual(errorsOf(files), []);
});

test('finds bit operators on addresses by their types', () => {
  const files = {
    'tsconfig.json': '{ "compilerOptions": { "target": "ES2022", "strict": true, "types": [] }, "include": ["src"] }',
    'src/base/addr.ts':
      'export type DmaAddr = number & { readonly space: "dma" };\nexport const f = (a: DmaAddr) => a & 1;\n',
    'src/hw/a.ts': `import type { DmaAddr } from '../base/addr';
export function g(a: DmaAddr, n: number, at: { src: DmaAddr }): number {
  const page = at.src >>> 12;
  n |= ~a;
  return (n & 7) + page + (a + 4) + (1 << n);
}
`,
  };
  const errors = inTree(files, (root) => addressBits(root));
  assert.deepEqual(errors, [
    "src/hw/a.ts:3: '>>>' on at.src, a DmaAddr: use the helpers of src/base/addr.ts",
    "src/hw/a.ts:4: '~' on a, a DmaAddr: use the helpers of src/base/addr.ts",
  ]);
});
