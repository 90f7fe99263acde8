import assert from 'node:assert/strict';
import { test } from 'node:test';
import { physAddr } from '../base/addr.ts';
import { Mem } from '../machine/mem.ts';
import { RamBank } from '../machine/ram.ts';
import { compareBytes, formatRanges } from './compare.ts';

const LINE = 32;
const bank = () => new RamBank(physAddr(0x10_0000), 8192, false);
const at = (ram: RamBank, offset: number, size: number) =>
  new Mem(ram, physAddr(ram.base + offset), size, ram.cpu.subarray(offset, offset + size), true);

test('equal bytes are no difference', () => {
  const ram = bank();
  assert.equal(compareBytes(at(ram, 0, 100), 0, LINE), null);
  assert.equal(compareBytes(at(ram, 0, 4), Uint8Array.of(0, 0, 0, 0), LINE), null);
  assert.equal(compareBytes(at(ram, 0, 0), 7, LINE), null);
});

test('bytes that memory has and the cache lacks are stale, line by line', () => {
  const ram = bank();
  const mem = at(ram, 16, 256);
  ram.memory.fill(0x5a, 16, 16 + 256);
  ram.cpu.fill(0x5a, 16, 32); // the line that ends at offset 16 was refilled
  ram.cpu.fill(0x5a, 96, 128); // and one in the middle
  const difference = compareBytes(mem, 0x5a, LINE);
  assert.ok(difference);
  assert.equal(difference.cause, 'stale');
  assert.equal(difference.bytes, 256 - 16 - 32);
  assert.deepEqual(difference.ranges, [
    { start: 16, end: 80 },
    { start: 112, end: 256 },
  ]);
  assert.deepEqual(difference.first, { offset: 16, expected: 0x5a, got: 0, inMemory: 0x5a });
});

test('a source whose stores never left the cache explains what the device copied', () => {
  const ram = bank();
  const source = at(ram, 0, 64);
  source.bytes.fill(7);
  assert.equal(compareBytes(at(ram, 4096, 64), source, LINE)?.cause, 'unwritten');
  ram.memory.fill(7, 0, 64);
  assert.equal(compareBytes(at(ram, 4096, 64), source, LINE)?.cause, 'wrong');
});

test('an expected buffer that is shorter differs from its end on', () => {
  const ram = bank();
  const difference = compareBytes(at(ram, 0, 8), new Uint8Array(5), LINE);
  assert.equal(difference?.bytes, 3);
  assert.equal(difference?.first.offset, 5);
});

test('ranges are listed up to a number', () => {
  const ranges = [0, 1, 2, 3].map((i) => ({ start: i * 256, end: i * 256 + 64 }));
  assert.equal(formatRanges(ranges, 2), '[0x0, 0x40), [0x100, 0x140) and 2 more');
});
