import assert from 'node:assert/strict';
import { test } from 'node:test';
import { boards } from '../boards/index.ts';
import { boardNames } from './systems.ts';
import { dmakit } from './testing.cases.ts';

test('without a name every board has a line', async () => {
  const { code, stdout, stderr } = await dmakit('board');
  assert.deepEqual([code, stderr], [0, '']);
  const lines = stdout.split('\n');
  assert.deepEqual(
    lines.slice(0, boards.length).map((line) => line.split(/ {2,}/)),
    boards.map(({ name, description }) => [name, description]),
  );
  assert.deepEqual(lines.slice(boards.length), ['', "See 'dmakit board zynq-a9'.", '']);
  const document = JSON.parse((await dmakit('board', '--json')).stdout);
  assert.deepEqual(
    document.boards.map(({ name }: { name: string }) => name),
    boards.map(({ name }) => name),
  );
});

test('a board shows its memory, its devices, what they reach, and their channels', async () => {
  const { code, stdout } = await dmakit('board', 'rpi3');
  assert.equal(code, 0);
  assert.match(stdout, /^rpi3 {2}/);
  assert.match(stdout, /devices do not see the CPU caches \(lines of 64 bytes\)/);
  assert.match(stdout, /window +0x00000000–.* is 0xc0000000 on its bus\n/);
  assert.match(stdout, / {2}dma0chan0 +memcpy .*free\n/);
  const { schema, board } = JSON.parse((await dmakit('board', 'rpi3', '--json')).stdout);
  assert.equal(schema, 'dmakit/board/1');
  assert.deepEqual([board.name, board.mode], ['rpi3', 'default']);
  assert.ok(board.devices.some(({ channels }: { channels: unknown[] }) => channels.length > 0));
});

test('a narrow mask shows what must bounce or cannot be reached', async () => {
  const { stdout } = await dmakit('board', 'zynq-a9', '--mode', 'mask=28');
  assert.match(stdout, / {2}reaches +0x00000000–0x0fffffff {2}256 MiB\n {2}(bounces +|cannot reach )256 MiB\n/);
});

test('an unknown board names the known ones, and a mode that cannot be is refused', async () => {
  const unknown = await dmakit('board', 'rpi');
  assert.deepEqual(unknown, {
    code: 2,
    stdout: '',
    stderr:
      "dmakit board: unknown board 'rpi' (did you mean 'rpi3'?)\n" +
      `The boards are ${boardNames('and')}; or give a file of your own (./my-board.ts).\n`,
  });
  const mode = await dmakit('board', 'rpi3', '--mode', 'mask=20');
  assert.deepEqual([mode.code, mode.stdout], [2, '']);
});
