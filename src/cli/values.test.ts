import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CliError } from './errors.ts';
import { byteCount, flag, integer, listOf, nearest, seedRange } from './values.ts';

const refused = (message: RegExp) => (error: unknown) => error instanceof CliError && message.test(error.message);

test('whole numbers are decimal or hexadecimal, and held to their range', () => {
  assert.equal(integer('--n', '42', 0, 100), 42);
  assert.equal(integer('--n', '0x10', 0, 100), 16);
  assert.equal(integer('--n', '-1', -1, 100), -1);
  assert.ok(Object.is(integer('--n', '-0', -1, 1), 0));
  for (const text of ['', ' ', '1e3', '1.5', 'ten', '101', '-2', '0x', '9007199254740993']) {
    assert.throws(
      () => integer('--n', text, -1, 100),
      refused(/^--n: expected a whole number from -1 to 100, found '/),
    );
  }
});

test('byte counts take K, M and G of 1024', () => {
  assert.equal(byteCount('--chunk', '1', 1, 1e9), 1);
  assert.equal(byteCount('--chunk', '64K', 1, 1e9), 65536);
  assert.equal(byteCount('--chunk', '1MiB', 1, 1e9), 1048576);
  for (const text of ['0', '-4', '4x', '', 'K', '2G']) {
    assert.throws(() => byteCount('--chunk', text, 1, 1e9), refused(/^--chunk: expected 1 to 1000000000 bytes/));
  }
});

test("switches are read as the kernel's module parameters are", () => {
  assert.equal(flag('--noverify', true), true);
  assert.equal(flag('--noverify', undefined), undefined);
  assert.equal(flag('--noverify', 'Y'), true);
  assert.equal(flag('--noverify', '0'), false);
  assert.throws(() => flag('--noverify', 'maybe'), refused(/expected Y or N, found 'maybe'/));
});

test('a range of seeds includes both ends', () => {
  assert.deepEqual(seedRange('--seeds', '3..6'), [3, 4, 5, 6]);
  assert.deepEqual(seedRange('--seeds', '7'), [7]);
  for (const text of ['6..3', '1..2..3', '..', 'a..b', '1..99999999']) {
    assert.throws(() => seedRange('--seeds', text), refused(/^--seeds: expected/));
  }
});

test('a misspelt word finds its neighbour, a foreign one none', () => {
  assert.equal(nearest('zync-a9', ['zynq-a9', 'rpi3']), 'zynq-a9');
  assert.equal(nearest('rpi4', ['zynq-a9', 'rpi3']), 'rpi3');
  assert.equal(nearest('mainframe', ['zynq-a9', 'rpi3']), undefined);
  assert.equal(listOf(['a', 'b', 'c']), 'a, b or c');
});
