import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { boards, boardsWithChannels } from '../boards/index.ts';
import { dmakit, scratchFolder } from './testing.cases.ts';

const examples = fileURLToPath(new URL('../../examples/', import.meta.url));
const dir = scratchFolder();
const MODES = 'coherent;noncoherent;default';

interface Record {
  board: string;
  mode: string;
  seed: number;
  outcome: string;
  findings: { rule: string; at: string }[];
}
async function runs(path: string, ...args: string[]): Promise<{ code: number; runs: Record[] }> {
  const { code, stdout, stderr } = await dmakit('run', path, '--json', ...args);
  assert.equal(stderr, '');
  return { code, runs: JSON.parse(stdout).runs };
}

/** Where an example finds what it needs, if not everywhere. */
const WITH_CHANNELS = boardsWithChannels.map(({ name }) => name);
const BOARDS: { readonly [file: string]: readonly string[] } = {
  'block-request.ts': WITH_CHANNELS,
  'edu.ts': boards.filter(({ drivers }) => drivers.some((driver) => driver.name === 'edu')).map(({ name }) => name),
  'scatter-gather.ts': WITH_CHANNELS,
  'with-sync.ts': WITH_CHANNELS,
};

const files = readdirSync(examples).filter((name) => name.endsWith('.ts'));
/** What is given as --board: see board-file.test.ts. */
const BOARD_FILES = ['my-board.ts'];

test('every example is described', () => {
  const readme = readFileSync(join(examples, 'README.md'), 'utf8');
  for (const name of files) assert.ok(readme.includes(`| ${name} |`), name);
});

for (const name of files.filter((file) => file !== 'missing-sync.ts' && !BOARD_FILES.includes(file))) {
  test(`${name} is right on every board, in every mode, with any seed`, async () => {
    const { code, runs: all } = await runs(join(examples, name), '--mode', MODES, '--seeds', '1..8');
    const bad = all.filter(({ outcome, findings }) => !['ok', 'skipped'].includes(outcome) || findings.length > 0);
    assert.deepEqual(bad, []);
    assert.equal(code, 0);
    assert.equal(all.length, boards.length * 3 * 8);
    // A board without what the driver needs is passed by.
    const ran = new Set(all.filter(({ outcome }) => outcome === 'ok').map(({ board }) => board));
    assert.deepEqual([...ran], BOARDS[name] ?? boards.map((board) => board.name));
  });
}

test('missing-sync.ts is right on coherent machines, and wrong with every seed on the others', async () => {
  const { code, runs: all } = await runs(join(examples, 'missing-sync.ts'), '--mode', MODES, '--seeds', '1..4');
  assert.equal(code, 1);
  for (const { board, mode, outcome, findings } of all.filter(({ board }) => WITH_CHANNELS.includes(board))) {
    const where = `${board} ${mode}`;
    if (mode === 'coherent') assert.deepEqual([outcome, findings], ['ok', []], where);
    else {
      assert.equal(outcome, 'failed', where);
      assert.deepEqual(
        findings.map(({ rule, at }) => [rule, basename(at)]),
        [['dma/missing-sync-for-cpu', 'missing-sync.ts:18:5']],
        where,
      );
    }
  }
});

test('missing-sync.ts differs from its correct twin in no more than the sync and the error checks', () => {
  const call = /dmaSyncSingleForCpu\(/;
  assert.doesNotMatch(readFileSync(join(examples, 'missing-sync.ts'), 'utf8'), call);
  assert.match(readFileSync(join(examples, 'with-sync.ts'), 'utf8'), call);
});

test('descriptor-ring.ts goes wrong without its dma_wmb on a weakly ordered board, with some seeds at least', async () => {
  const text = readFileSync(join(examples, 'descriptor-ring.ts'), 'utf8');
  const without = text.replace(/^ *dmaWmb\(kernel\);.*\n/m, '');
  assert.notEqual(without, text);
  writeFileSync(join(dir, 'no-barrier.ts'), without);
  const { code, runs: all } = await runs(join(dir, 'no-barrier.ts'), '--board', 'zynq-a9', '--seeds', '1..10');
  assert.equal(code, 1);
  assert.ok(all.some(({ outcome }) => outcome === 'failed'));
});
