import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { isBoardFile } from './board-file.ts';
import { dmakit, scratchFolder } from './testing.cases.ts';

const dir = scratchFolder();
const example = fileURLToPath(new URL('../../examples/my-board.ts', import.meta.url));
const driver = fileURLToPath(new URL('../../examples/with-sync.ts', import.meta.url));
const exampleText = readFileSync(example, 'utf8');

/** The example with something changed. */
function variantOf(name: string, find: string, replace: string): string {
  const path = join(dir, name);
  const text = exampleText.replace(find, replace);
  assert.notEqual(text, exampleText, `'${find}' is in the example`);
  writeFileSync(path, text);
  return path;
}
/** Line and column of `text` in a file, as errors have them. */
function placeIn(path: string, text: string): string {
  const lines = readFileSync(path, 'utf8').split('\n');
  const line = lines.findIndex((candidate) => candidate.includes(text));
  return `${path}:${line + 1}:${lines[line]!.indexOf(text) + 1}`;
}
function file(name: string, text: string): string {
  const path = join(dir, name);
  writeFileSync(path, text);
  return path;
}

test('names of boards are no files, and files are no names', () => {
  for (const text of ['./my-board.ts', 'my-board.ts', '/x/board.mjs', 'boards\\mine.js', 'folder/board']) {
    assert.ok(isBoardFile(text), text);
  }
  for (const text of ['rpi3', 'zynq-a9', 'all']) assert.ok(!isBoardFile(text), text);
});

test("dmatest passes on every channel of a board of one's own", async () => {
  const args = ['dmatest', '--board', example, '--iterations', '20', '--mode', 'default;noncoherent', '--json'];
  const { code, stdout, stderr } = await dmakit(...args);
  assert.deepEqual([code, stderr], [0, '']);
  const { results, total } = JSON.parse(stdout);
  assert.deepEqual(total, { boards: 1, channels: 4, tests: 160, failures: 0, findings: 0 });
  assert.deepEqual(new Set(results.map(({ board }: { board: string }) => board)), new Set(['my-board']));
});

test('copy moves a file through its engine', async () => {
  const source = file('src', 'what is to be copied\n'.repeat(5000));
  const { code, stdout } = await dmakit('copy', source, join(dir, 'dst'), '--board', example);
  assert.equal(code, 0);
  assert.match(stdout, /^105\.0 KB copied by dma0chan0 of my-board in 1 transfer: verified\n/);
  assert.deepEqual(readFileSync(join(dir, 'dst')), readFileSync(source));
});

test('run takes it, and its last line names the file', async () => {
  const { code, stdout, stderr } = await dmakit('run', driver, '--board', example, '--seeds', '1..3');
  assert.deepEqual([code, stderr], [0, '']);
  assert.equal(stdout, 'my-board, seeds 1 to 3: ok\n\n1 board, 3 runs, 0 failed, 0 findings\n');
  const bad = driver.replace('with-sync', 'missing-sync');
  const shown = await dmakit('run', bad, '--board', example, '--mode', 'noncoherent');
  assert.equal(shown.code, 1);
  assert.ok(shown.stdout.includes(`--board ${example} --mode noncoherent --timeline\n`), shown.stdout);
});

test('board describes it', async () => {
  const { code, stdout } = await dmakit('board', example);
  assert.equal(code, 0);
  assert.match(stdout, /^my-board {2}A board of my own, mode default\n {2}devices snoop the CPU caches/);
  assert.match(stdout, /\n {2}RAM {3}0x80000000–0x82ffffff {2}48 MiB\n/);
  assert.match(stdout, /\n {2}dma0chan3 +memcpy .* free\n/);
});

test('a mode that it does not have is refused with those that it has', async () => {
  const { code, stderr } = await dmakit('dmatest', '--board', example, '--mode', 'mask=28');
  assert.equal(code, 2);
  assert.match(
    stderr,
    /^dmakit dmatest: --mode 'mask=28': my-board: it has no mode 'mask=28'; its modes are coherent, /,
  );
});

test('what is no board is refused with its place, exit code 2, by every command', async () => {
  const noRam = variantOf('no-ram.ts', 'ram: [RAM],', 'ram: [],');
  const cases: [string, RegExp][] = [
    [file('nothing.ts', 'export const x = 1;'), /nothing\.ts: it is no board: expected export default defineBoard\(/],
    [
      file('driver.ts', readFileSync(driver, 'utf8')),
      /driver\.ts: it is a driver, not a board: give it to 'dmakit run'/,
    ],
    [file('syntax.ts', 'const a = {;'), /syntax\.ts:1:12: Expected identifier but found ";"/],
    [file('throws.ts', '\nnull!.x;'), /throws\.ts:2:7: TypeError: Cannot read properties of null/],
    [noRam, new RegExp(`${placeIn(noRam, 'defineBoard({')}: board "my-board": 'ram': expected at least one range`)],
    [
      join(dir, 'absent.ts'),
      /^dmakit \w+: cannot read '.*absent\.ts': no such file\nGive a board file, such as examples\/my-board\.ts\.\n/,
    ],
    [file('notes.txt', ''), /'.*notes\.txt' is no board file: expected a name ending in \.ts, /],
  ];
  for (const [path, message] of cases) {
    const source = file('any', 'x');
    for (const args of [
      ['dmatest', '--board', path],
      ['copy', source, join(dir, 'never'), '--board', path],
      ['run', driver, '--board', path],
      ['board', path],
    ]) {
      const { code, stdout, stderr } = await dmakit(...args);
      assert.deepEqual([code, stdout], [2, ''], `${args.join(' ')}: ${stderr}`);
      assert.match(stderr, message);
      assert.doesNotMatch(stderr, /\n {4}at /);
    }
  }
});

test('a board that fails when it boots is told at its line', async () => {
  const path = variantOf('no-bind.ts', 'bind(host) {', "bind(host) {\n    if (host) throw new Error('no clock');");
  const dmatest = await dmakit('dmatest', '--board', path);
  assert.equal(dmatest.code, 2);
  const place = placeIn(path, "new Error('no clock')");
  assert.ok(dmatest.stderr.startsWith(`dmakit dmatest: ${place}: my-board: no clock\n`), dmatest.stderr);
  assert.match(dmatest.stderr, /\n> \d+ \| +if \(host\) throw new Error/);
  const run = JSON.parse((await dmakit('run', driver, '--board', path, '--json')).stdout).runs[0];
  assert.deepEqual([run.outcome, run.message, run.at], ['failed', 'no clock', place]);
});

test('a model that throws while it works ends the command at its line, without a stack', async () => {
  const path = variantOf(
    'throwing-model.ts',
    'bind(host) {',
    `bind(host) {
    host.mapRegisters(physAddr(0x1004_0000), 0x1000, 'probe me', {
      readRegister: () => {
        throw new RangeError('no such register');
      },
      writeRegister: () => {},
    });`,
  );
  const text = readFileSync(path, 'utf8').replace(
    'drivers: [pl330Driver],',
    `drivers: [pl330Driver],
  start: async (kernel) => void readl(ioremap(kernel, physAddr(0x1004_0000), 4), 0),`,
  );
  writeFileSync(path, text.replace('import { dt, ofTree }', 'import { dt, ioremap, ofTree, readl }'));
  const { code, stderr } = await dmakit('dmatest', '--board', path);
  assert.equal(code, 1);
  assert.match(stderr, /^dmakit dmatest: .*throwing-model\.ts:\d+:15: my-board: .*no such register/);
  assert.doesNotMatch(stderr, /internal error|\n {4}at /);
});

test('nothing is left behind in the folder for temporary files', () => {
  const left = readdirSync(tmpdir()).filter((name) => name.startsWith(`dmakit-board-${process.pid}-`));
  assert.deepEqual(left, []);
});
