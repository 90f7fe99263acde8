import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { boards, boardsWithChannels } from '../boards/index.ts';
import { runScript } from './testing.cases.ts';

const script = fileURLToPath(new URL('./start.ts', import.meta.url));

test('npm start tests every board, copies a file, shows the stale bytes, and ends with the sum', async () => {
  const { code, stdout, stderr } = await runScript(script, []);
  assert.deepEqual([code, stderr], [0, '']);
  assert.ok(!stdout.includes('\u001b'), 'no colours in a pipe');
  for (const { name: board } of boardsWithChannels) {
    const rows = [
      ...stdout.matchAll(new RegExp(`^${board} +dma0chan\\d+ +(\\d+) +0 +[\\d.]+ +[\\d,]+ +\\d+\\.\\d\\d$`, 'gm')),
    ];
    const tests = rows.reduce((sum, [, count]) => sum + Number(count), 0);
    assert.ok(tests >= 1000, `${board}: ${tests} transfers`);
    const copied = new RegExp(`^${board} +dma0chan\\d+ +(\\d+\\.\\d) MB .* sha256 [0-9a-f]{12}… verified$`, 'm').exec(
      stdout,
    );
    assert.ok(Number(copied?.[1]) >= 10, `${board}: a file of 10 MB`);
  }
  assert.match(stdout, /coherent|snoop the caches +right\n/);
  assert.match(stdout, /zynq-a9, where they do not +wrong\n/);
  assert.match(stdout, /stale\s+bytes \d+–\d+/);
  assert.match(stdout, /missing-sync\.ts:18:5\n/);
  assert.match(stdout, /\n {4}> 18 \| {5}expectBytes\(target, 0x5a, 'the target'\);\n {9}\| {5}\^\n/);
  assert.match(stdout, /mend: add dmaSyncSingleForCpu\(dev, handle, 4096, DMA_FROM_DEVICE\) before line 18\n/);
  assert.match(stdout, /why: {2}npx dmakit rules dma\/missing-sync-for-cpu\n/);
  for (const { name, title } of boardsWithChannels) {
    assert.ok(
      stdout.split('\n').some((line) => line.startsWith(`  ${name} `) && line.endsWith(`  ${title}`)),
      name,
    );
  }
  const leftOut = stdout.split('\n').find((line) => line.includes('no DMA engine for others to use')) ?? '';
  for (const board of boards)
    assert.equal(leftOut.includes(board.name), !boardsWithChannels.includes(board), board.name);
  assert.match(stdout, /try next: npx dmakit run examples\/with-sync\.ts /);
  assert.match(stdout, new RegExp(`\\n${boardsWithChannels.length} boards, \\d+ channels, \\d+ tests, 0 failures\\n$`));
});

test('Ctrl-C ends npm start early with what was done, and leaves nothing behind', async () => {
  const mine = () => readdirSync(tmpdir()).filter((name) => name.startsWith('dmakit-start-'));
  const before = mine();
  const { code, stderr } = await runScript(script, [], (child) => {
    child.stdout?.once('data', () => child.kill('SIGINT'));
  });
  assert.equal(code, 130);
  assert.match(stderr, /^npm start: interrupted; until then /m);
  assert.deepEqual(mine(), before);
});
